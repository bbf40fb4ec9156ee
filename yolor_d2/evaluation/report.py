"""Results for people and for programs.

Evaluators give {task: {metric: number}}. A metric with a hyphen is of one class, as in detectron2:
"AP-person" is the AP of the class "person". Those go into a table of their own.
"""

import csv
import io
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..files import json_number, write_json, write_text
from .caption.baselines import caption_table
from .missing import Missing

logger = logging.getLogger(__name__)

Results = Mapping[str, Mapping[str, float]]


def write_report(results: Results, folder: Path, *, dataset_name: str) -> None:
    """Log the results of a data set as a table, and write them down.

    Args:
        results: of the evaluators.
        folder: gets metrics.json, of the data set that was evaluated last; and below
            inference/<data set> the same and per_class.csv.
        dataset_name: in detectron2's catalogues.
    """
    own_folder = folder / "inference" / dataset_name
    metrics = flat_metrics(results)
    for path in (own_folder, folder):
        write_json(path / "metrics.json", metrics, indent=1)
    write_text(own_folder / "per_class.csv", per_class_csv(results))
    logger.info("%s, also in %s:\n%s", dataset_name, own_folder, results_table(results))


def headline(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results, of one data set or of several by name, without the numbers of single classes."""
    return {
        name: headline(value) if isinstance(value, Mapping) else value
        for name, value in results.items()
        if isinstance(value, Mapping) or "-" not in name
    }


def flat_metrics(results: Results) -> dict[str, Any]:
    """What metrics.json holds: "bbox/AP" and so on, None where there is no number.

    "reasons" says why, of those of which that is known.
    """
    numbers = {
        f"{task}/{name}": number
        for task, metrics in headline(results).items()
        for name, number in metrics.items()
    }
    metrics: dict[str, Any] = {key: json_number(number) for key, number in numbers.items()}
    reasons = {key: number.reason for key, number in numbers.items() if isinstance(number, Missing)}
    return metrics | ({"reasons": reasons} if reasons else {})


def results_table(results: Results) -> str:
    """The headline numbers in Markdown; tasks with the same metrics share a table."""
    rows: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    numbers = headline(results)
    captions = numbers.pop("caption", None)
    for task, metrics in numbers.items():
        cells = (format(n, ".2f") if math.isfinite(n) else "-" for n in metrics.values())
        rows[tuple(metrics)].append([task, *cells])
    tables = [
        tabulate(cells, headers=["", *metrics], tablefmt="pipe", disable_numparse=True)
        for metrics, cells in rows.items()
    ]
    if captions is not None:
        tables.append(caption_table(captions))
    return "\n\n".join(tables)


def per_class_csv(results: Results) -> str:
    """One line for each class, one column for each metric of classes; empty: no number."""
    classes: dict[str, dict[str, float]] = {}
    columns: dict[str, None] = {}
    for column, name, number in _per_class(results):
        columns[column] = None
        classes.setdefault(name, {})[column] = number
    text = io.StringIO()
    writer = csv.DictWriter(text, ["class", *columns], lineterminator="\n")
    writer.writeheader()
    for name, numbers in classes.items():
        known = {c: round(number, 4) for c, number in numbers.items() if math.isfinite(number)}
        writer.writerow({"class": name, **known})
    return text.getvalue()


def _per_class(results: Results) -> Iterator[tuple[str, str, float]]:
    """Column, class and number."""
    for task, metrics in results.items():
        for key, number in metrics.items():
            metric, hyphen, name = key.partition("-")
            if hyphen:
                yield f"{task}/{metric}", name, number
