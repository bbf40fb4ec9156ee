"""Evaluation results as log tables and files.

Evaluators return {task: {metric: number}}. As in detectron2, a metric with a hyphen belongs to one
class: "AP-person" is the AP of the class "person". Per-class metrics go into their own table.
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


def write_report(results: Mapping[str, Any], folder: Path, *, dataset_name: str) -> None:
    """Log the results of a data set as tables and write them to files.

    Args:
        results: numbers of all evaluators; also {name: number}, without a task.
        folder: output folder. metrics.json in it is overwritten for each data set;
            inference/<data set> below it gets a copy and per_class.csv.
        dataset_name: name in detectron2's catalogs.
    """
    results = {task: m if isinstance(m, Mapping) else {"": m} for task, m in results.items()}
    own_folder = folder / "inference" / dataset_name
    metrics = flat_metrics(results)
    for path in (own_folder, folder):
        write_json(path / "metrics.json", metrics, indent=1)
    write_text(own_folder / "per_class.csv", per_class_csv(results))
    logger.info("%s, also in %s:\n%s", dataset_name, own_folder, results_table(results))


def headline(results: Mapping[str, Any]) -> dict[str, Any]:
    """Drop per-class metrics from the results of one data set, or of several by name."""
    return {
        name: headline(value) if isinstance(value, Mapping) else value
        for name, value in results.items()
        if isinstance(value, Mapping) or "-" not in name
    }


def flat_metrics(results: Results) -> dict[str, Any]:
    """Return the content of metrics.json: "bbox/AP" and so on, None for missing numbers.

    "reasons" has the reasons of missing numbers, where known.
    """
    numbers = {
        f"{task}/{name}".rstrip("/"): number
        for task, metrics in headline(results).items()
        for name, number in metrics.items()
    }
    metrics: dict[str, Any] = {key: json_number(number) for key, number in numbers.items()}
    reasons = {key: number.reason for key, number in numbers.items() if isinstance(number, Missing)}
    return metrics | ({"reasons": reasons} if reasons else {})


def results_table(results: Results) -> str:
    """Return the headline numbers as Markdown; tasks with the same metrics share a table."""
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
    """Return one row per class and one column per metric; missing numbers are empty."""
    classes: dict[str, dict[str, float]] = {}
    columns: dict[str, None] = {}
    for column, name, number in _per_class_metrics(results):
        columns[column] = None
        classes.setdefault(name, {})[column] = number
    text = io.StringIO()
    writer = csv.DictWriter(text, ["class", *columns], lineterminator="\n")
    writer.writeheader()
    for name, numbers in classes.items():
        finite = {c: round(number, 4) for c, number in numbers.items() if math.isfinite(number)}
        writer.writerow({"class": name, **finite})
    return text.getvalue()


def _per_class_metrics(results: Results) -> Iterator[tuple[str, str, float]]:
    """Yield column, class and number."""
    for task, metrics in results.items():
        for key, number in metrics.items():
            metric, hyphen, name = key.partition("-")
            if hyphen:
                yield f"{task}/{metric}", name, number
