"""Tables of what long and disturbed runs end with, in Markdown.

    python -m tests.reliability kills --count 20

Rows that are in the folder of an earlier call are not measured again. Exit code 1: a row failed.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .options import Options

TABLES = {  # default counts
    "kills": (20, "kills at random moments: resumed runs equal the undisturbed one"),
    "equality": (6, "steps of runs that should be equal: workers, processes, resume"),
    "soak": (2000, "steps of one run: memory, files and threads stay flat"),
    "requests": (2000, "requests of the web page in eight connections"),
    "disks": (6, "steps with full disks, missing files, jumping clocks, one folder twice"),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = parser.add_subparsers(required=True, metavar="TABLE")
    for name, (count, summary) in TABLES.items():
        table = tables.add_parser(name, help=summary)
        table.add_argument("--count", type=int, default=count, help=f"({count})")
        table.add_argument("--minutes", type=float, default=60, help="time limit (60)")
        table.add_argument("--seed", type=int, default=0, help="of random moments (0)")
        table.add_argument("--folder", type=Path, help="results to go on with (a new folder)")
        table.set_defaults(table=name)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    args = make_parser().parse_args(arguments)
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="reliability_"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Data sets are registered when yolor_d2 is imported.
    os.environ |= {"DETECTRON2_DATASETS": str(folder / "datasets"), "CUDA_VISIBLE_DEVICES": ""}
    table = import_module(f"{__package__}.{args.table}")
    options = Options(folder, args.count, args.minutes * 60, args.seed)
    found = measure(table, options, folder / f"{args.table}.json")
    rows = [row for case in found.values() for row in case["rows"]]
    seconds = sum(case["seconds"] for case in found.values())
    print(f"{machine()}, {seconds / 60:.1f} minutes\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    missing = [case for case in table.CASES if case not in found]
    if missing:
        print(f"\nnot measured within {args.minutes:g} minutes: {', '.join(missing)}")
    return int(any(row.get("result", "ok") != "ok" for row in rows))


def measure(table: Any, options: Options, results: Path) -> dict[str, Any]:
    """The rows of each case and their seconds; new ones are added to a file of results."""
    found: dict[str, Any] = json.loads(results.read_text()) if results.is_file() else {}
    begin = time.monotonic()
    for case in table.CASES:
        start = time.monotonic()
        if case in found or start - begin > options.seconds:
            continue
        print(f"{case} ...", file=sys.stderr, flush=True)
        rows = table.run(case, options)
        found[case] = {"rows": rows, "seconds": time.monotonic() - start}
        results.write_text(json.dumps(found, indent=1))
    return found


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{platform.system()}, {cores} cores, CPU, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
