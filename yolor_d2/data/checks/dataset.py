"""Checks of whole registered data sets: every file, every annotation."""

import csv
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
from detectron2.data import MetadataCatalog
from tqdm import tqdm

from ...errors import DataError, OutOfMemoryError
from ..catalog.records import load_records
from .json_files import JSON_KEYS, json_problems
from .records import ClassTables, Problem, Record, Report, check_records, repeated_images

MAX_EXAMPLES = 5
REPORT_COLUMNS = ("file", "id", "kind", "detail")

_CHUNK = 16


class ProblemList:
    """Counts problems, keeps the first examples of each kind, and writes all of them to a file.

    Args:
        writer: CSV writer that gets a row per problem; None writes nothing.

    Attributes:
        counts: number of problems by task and kind.
        examples: the first MAX_EXAMPLES problems by task and kind.
    """

    def __init__(self, writer: Any = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], list[Problem]] = {}
        self._writer = writer

    def add(self, problem: Problem) -> None:
        """Count a problem and write it."""
        key = (problem.task, problem.kind)
        self.counts[key] += 1
        examples = self.examples.setdefault(key, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(problem)
        if self._writer is not None:
            self._writer.writerow([getattr(problem, column) for column in REPORT_COLUMNS])

    def of_task(self, task: str) -> int:
        """Return the number of problems of a task."""
        return sum(count for (of_task, _), count in self.counts.items() if of_task == task)


def check_dataset(
    name: str, problems: ProblemList, *, workers: int = 0, limit: int | None = None
) -> tuple[Report, int, ClassTables]:
    """Check a registered data set.

    Args:
        name: name in detectron2's catalog.
        problems: collects all problems, also those found before a DataError.
        workers: number of worker processes; 0 checks in this process.
        limit: check only the first images; None checks all. JSON files are checked completely.

    Returns:
        Report, number of images, class names.

    Raises:
        DataError: the data set cannot be loaded.
        OutOfMemoryError: a worker was killed.
    """
    metadata = MetadataCatalog.get(name)
    for task, key in JSON_KEYS.items():
        path = metadata.get(key)
        if path is not None and Path(path).exists():  # the loader reports missing files
            for problem in json_problems(task, Path(path)):
                problems.add(problem)
    records = load_records(name)[:limit]
    if not records:
        raise DataError(f"{name}: has no images")
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
    if limit is None and total.images["objects"] and not _has_objects(total):
        source = str(metadata.get("json_file") or name)
        problems.add(
            Problem("objects", "no object in any image", source, "all", "nothing to learn")
        )
    return total, len(records), tables


def _has_objects(report: Report) -> bool:
    return any(task == "objects" for (task, _), count in report.class_counts.items() if count)


def _reports(
    records: Sequence[Record], tables: ClassTables, workers: int
) -> Iterator[tuple[Report, int]]:
    """Yield the report and the number of records of each chunk, in order."""
    chunks = [records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK)]
    check = functools.partial(check_records, tables=tables)
    sizes = map(len, chunks)
    if workers == 0:
        yield from zip(map(check, chunks), sizes, strict=True)
        return
    # Spawned processes start without a copy of all annotations.
    context = get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(chunks)), context, initializer=cv2.setNumThreads, initargs=(0,)
    ) as pool:
        try:
            yield from zip(pool.map(check, chunks), sizes, strict=True)
        except BrokenProcessPool:
            raise OutOfMemoryError(
                "a worker was killed (out of memory?); run again with fewer --workers"
            ) from None


@contextmanager
def open_report(path: Path | None) -> Iterator[Any]:
    """Open a CSV writer for problems, with the header written; None without a path."""
    if path is None:
        yield None
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(REPORT_COLUMNS)
        yield writer
