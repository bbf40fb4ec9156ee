"""Examine whole data sets before they are trained on: every file, every annotation.

    python -m yolor_d2.tools.check_data --dataset coco_2017_val_multitask --report problems.csv

Exit code 0: nothing is wrong. 1: there are problems. 2: a data set cannot be loaded, or is not
registered. Crowds and images without objects or captions are no problems.
"""

import argparse
import contextlib
import csv
import difflib
import functools
import importlib
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate
from tqdm import tqdm

from ..data.checks.json_files import JSON_KEYS, json_problems
from ..data.checks.records import (
    TASKS,
    ClassTables,
    Problem,
    Record,
    Report,
    check_records,
    repeated_images,
)
from ..data.errors import DataError

MAX_EXAMPLES = 5
REPORT_COLUMNS = ("file", "id", "kind", "detail")
# What the table of classes shows of each task; the pixels of a semantic class are not counted.
CLASS_COLUMNS = {
    "objects": {"objects": "class_counts", "images": "class_images"},
    "semantic": {"images (semantic)": "class_images"},
    "panoptic": {"segments": "class_counts", "images (panoptic)": "class_images"},
}

_CHUNK = 16


class ProblemList:
    """Problems as they come: their numbers, the first ones of each kind, all of them in a file.

    Args:
        writer: a CSV writer for all of them.
    """

    def __init__(self, writer: Any = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()  # by task and kind
        self.examples: dict[tuple[str, str], list[Problem]] = {}
        self._writer = writer

    def add(self, problem: Problem) -> None:
        """Note one more."""
        key = (problem.task, problem.kind)
        self.counts[key] += 1
        examples = self.examples.setdefault(key, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(problem)
        if self._writer is not None:
            self._writer.writerow([getattr(problem, column) for column in REPORT_COLUMNS])

    def of_task(self, task: str) -> int:
        """How many problems a task has."""
        return sum(count for (of_task, _), count in self.counts.items() if of_task == task)


def check_data_set(
    name: str, problems: ProblemList, *, workers: int = 0, limit: int | None = None
) -> tuple[Report, int, ClassTables]:
    """Examine a registered data set.

    Args:
        name: in detectron2's catalogue.
        problems: gets what is wrong, also where a DataError follows.
        workers: processes that share the work; 0 does it in this one.
        limit: examine the first images only. The JSON files are examined in full.

    Returns:
        What was counted, of how many images, and the names of the classes.

    Raises:
        DataError: the data set cannot be loaded.
    """
    metadata = MetadataCatalog.get(name)
    for task, key in JSON_KEYS.items():
        path = metadata.get(key)
        if path is not None and Path(path).exists():  # the loader says it when one is missing
            for problem in json_problems(task, Path(path)):
                problems.add(problem)
    records = _load(name)[:limit]
    tables = ClassTables.from_metadata(metadata)
    for problem in repeated_images(records):
        problems.add(problem)
    total = Report.empty()
    with tqdm(total=len(records), desc=name, unit="image", disable=None) as progress:
        for report, size in _reports(records, tables, workers):
            for problem in report.problems:
                problems.add(problem)
            total.add(report)
            progress.update(size)
    return total, len(records), tables


def _load(name: str) -> list[Record]:
    try:
        records = DatasetCatalog.get(name)
    except DataError:
        raise
    except Exception as error:  # any loader may be registered, and stumble over any bad file
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be loaded ({type(error).__name__}: {reason})") from None
    if not records:
        raise DataError(f"{name}: has no images")
    return records


def _reports(
    records: Sequence[Record], tables: ClassTables, workers: int
) -> Iterator[tuple[Report, int]]:
    """Of each chunk, in order: what was found, and the number of records."""
    chunks = [records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK)]
    check = functools.partial(check_records, tables=tables)
    sizes = map(len, chunks)
    if workers == 0:
        yield from zip(map(check, chunks), sizes, strict=True)
        return
    # Spawned processes start without this one's copy of all annotations.
    context = get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(chunks)), context, initializer=cv2.setNumThreads, initargs=(0,)
    ) as pool:
        yield from zip(pool.map(check, chunks), sizes, strict=True)


def print_tasks(report: Report, num_images: int, problems: ProblemList) -> None:
    """A line for each task that the data set has."""
    rows = [
        (task, report.images[task], num_images - report.images[task], problems.of_task(task))
        for task in TASKS
        if report.images[task] or problems.of_task(task)
    ]
    print(tabulate(rows, headers=("task", "images", "images without", "problems")))


def print_classes(report: Report, tables: ClassTables) -> None:
    """A line for each class that occurs; the tables of several tasks share their names."""
    rows: dict[str, Counter[str]] = {}
    headers: list[str] = []
    for task, columns in CLASS_COLUMNS.items():
        if not report.images[task]:
            continue
        headers += columns
        for index, name in enumerate(getattr(tables, task) or ()):
            row = rows.setdefault(name, Counter())
            for header, counter in columns.items():
                row[header] += getattr(report, counter)[task, index]
    cells = [
        (name, *(row.get(header) for header in headers))
        for name, row in rows.items()
        if any(row.values())
    ]
    if cells:
        print(tabulate(cells, headers=("class", *headers)))
    absent = [name for name, row in rows.items() if not any(row.values())]
    if absent:
        print(textwrap.fill("never seen: " + ", ".join(absent), width=100))


def print_problems(problems: ProblemList) -> None:
    """The kinds of problems, each with its first examples."""
    for (task, kind), examples in problems.examples.items():
        count = problems.counts[task, kind]
        print(f"{task}: {kind}: {count}")
        for problem in examples:
            print(f"    {problem.file}: image {problem.id}: {problem.detail}")
        if count > len(examples):
            print(f"    and {count - len(examples)} more")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset",
        action="append",
        required=True,
        metavar="NAME",
        help="in detectron2's catalogue; several times for several",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this first; it registers data sets of your own",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes, 0 for none but this one"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="examine the first N images only")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.csv", help="write all problems, a line each"
    )
    options = parser.parse_args(arguments)
    if options.workers < 0:
        parser.error("--workers must not be negative")
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be 1 at least")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine data sets and print what was found; the exit code."""
    options = parse_arguments(arguments)
    try:
        for module in options.modules:
            importlib.import_module(module)
        for name in options.dataset:
            _require_registered(name)
        with _csv_writer(options.report) as writer:
            return max(
                [_check_and_print(name, ProblemList(writer), options) for name in options.dataset]
            )
    except (DataError, OSError, ImportError) as error:
        return _fail(str(error))
    except BrokenProcessPool:
        return _fail("a worker was killed (out of memory?); run again with fewer --workers")


def _check_and_print(name: str, problems: ProblemList, options: argparse.Namespace) -> int:
    try:
        report, num_images, tables = check_data_set(
            name, problems, workers=options.workers, limit=options.limit
        )
    except DataError as error:
        print_problems(problems)
        return _fail(str(error))
    print(f"{name}: {num_images} images\n")
    print_tasks(report, num_images, problems)
    print()
    print_classes(report, tables)
    print()
    print_problems(problems)
    count = problems.counts.total()
    print(f"{name}: " + (f"{count} problem{'s' * (count > 1)}" if count else "OK"))
    return min(count, 1)


def _require_registered(name: str) -> None:
    names = DatasetCatalog.list()
    if name not in names:
        near = ", ".join(difflib.get_close_matches(name, names, n=5)) or "none"
        raise DataError(f"there is no data set {name}; names like it: {near}")


@contextlib.contextmanager
def _csv_writer(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield None
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(REPORT_COLUMNS)
        yield writer


def _fail(reason: str) -> int:
    print(f"check_data: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
