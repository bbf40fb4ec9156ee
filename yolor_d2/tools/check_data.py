"""Check all files and annotations of data sets before training.

    python -m yolor_d2.tools.check_data --dataset coco_2017_val_multitask --report problems.csv
    yolor-d2 check-data DATA

DATA is a file or folder in a format of docs/reference/data_formats.md.

Crowds and images without objects or captions are not problems. Exit code 0: no problems; 1:
problems were found; 2: a data set is not registered or cannot be loaded.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..data.catalog.registered import require_registered
from ..data.checks.dataset import ProblemList, check_dataset, open_report
from ..data.checks.summary import class_table, problem_lines, task_table
from ..data.formats.registration import NAMES, register_own_data
from ..data.formats.summary import summary
from ..engine.launch.arguments import add_import, import_modules
from ..errors import DataError, print_error
from .errors import FAILED, WRONG_USE, one_line_errors


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="file or folder of labeled data")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME",
        help="registered data set; repeatable",
    )
    add_import(parser)
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="number of processes; 0: only this one"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="check only the first N images")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.csv", help="write all problems to a file"
    )
    return parser


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if not options.dataset and options.data is None:
        parser.error("DATA or --dataset is required")
    if options.workers < 0:
        parser.error("--workers must not be negative")
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    return options


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Check data sets and print the result; returns the exit code."""
    options = parse_arguments(arguments)
    import_modules(options.modules)
    names = [*options.dataset, *(register_data(options.data) if options.data else ())]
    require_registered(names)
    with open_report(options.report) as writer:
        return max([check(name, ProblemList(writer), options) for name in names])


def register_data(path: str) -> list[str]:
    """Register labeled data and print what was found; returns the names of its parts."""
    found = register_own_data(path)
    for line in summary(found):
        print(line)
    print()
    return [NAMES[part] for part in found.data.parts]


def check(name: str, problems: ProblemList, options: argparse.Namespace) -> int:
    """Check one data set and print the result; returns the exit code."""
    try:
        report, num_images, tables = check_dataset(
            name, problems, workers=options.workers, limit=options.limit
        )
    except DataError as error:
        print_problems(problems)
        print_error(error)
        return WRONG_USE
    print(f"{name}: {num_images} images\n\n{task_table(report, num_images, problems)}\n")
    if classes := class_table(report, tables):
        print(classes)
    if tables.labeled is not None:
        print(f"labeled classes: {', '.join(tables.labeled) or 'none'}")
    print()
    print_problems(problems)
    count = problems.counts.total()
    print(f"{name}: " + (f"{count} problem{'s' * (count > 1)}" if count else "OK"))
    return FAILED if count else 0


def print_problems(problems: ProblemList) -> None:
    for line in problem_lines(problems):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
