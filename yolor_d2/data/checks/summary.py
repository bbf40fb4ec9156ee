"""The result of a data set check as text."""

import textwrap
from collections import Counter
from collections.abc import Iterator

from tabulate import tabulate

from .dataset import ProblemList
from .records import TASKS, ClassTables, Report

# Columns of each task in the table of classes. Pixels of semantic classes are not counted.
CLASS_COLUMNS = {
    "objects": {"objects": "class_counts", "images": "class_images"},
    "semantic": {"images (semantic)": "class_images"},
    "panoptic": {"segments": "class_counts", "images (panoptic)": "class_images"},
}


def task_table(report: Report, num_images: int, problems: ProblemList) -> str:
    """Return a table with a row for each task that has annotations or problems."""
    rows = [
        (task, report.images[task], num_images - report.images[task], problems.of_task(task))
        for task in TASKS
        if report.images[task] or problems.of_task(task)
    ]
    return tabulate(rows, headers=("task", "images", "images without", "problems"))


def class_table(report: Report, tables: ClassTables) -> str:
    """Return a table of classes that occur, by name across tasks, and the names of the others."""
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
    parts = [tabulate(cells, headers=("class", *headers))] if cells else []
    if absent := [name for name, row in rows.items() if not any(row.values())]:
        parts.append(textwrap.fill("classes that do not occur: " + ", ".join(absent), width=100))
    return "\n".join(parts)


def problem_lines(problems: ProblemList) -> Iterator[str]:
    """Yield a line for each kind of problem with its count, and lines with its first examples."""
    for (task, kind), examples in problems.examples.items():
        count = problems.counts[task, kind]
        yield f"{task}: {kind}: {count}"
        for problem in examples:
            yield f"    {problem.file}: image {problem.id}: {problem.detail}"
        if count > len(examples):
            yield f"    and {count - len(examples)} more"
