"""Pack what a maintainer needs to know about a run into one zip file, for an issue.

    yolor-d2 report output/photos

Contains versions, configuration, the last lines of logs and metrics, the last traceback, and a list
of files with their sizes; neither images nor weights. Passwords, keys and the machine's name are
removed, and home folders become ~. Names of classes and data files stay: look through it first.
"""

import argparse
import os
import platform
import re
import sys
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..errors import OptionError
from ..files import replacing
from .doctor import check
from .errors import one_line_errors

# Files of a run whose last lines are packed.
TEXTS = (
    *("*.yaml", "config.py", "provenance.json", "log.txt*", "metrics.json", "metrics.csv"),
    *("training.jsonl", "bad_files.txt", "nonfinite_*.json", "inference/**/per_class.csv"),
)
LAST_LINES = 2000
MAX_LINE = 100_000  # characters; a configuration in provenance.json is one line
MAX_LISTED = 2000
TRACEBACK = "Traceback (most recent call last):"
RECORD = re.compile(r"\[\d\d/\d\d \d\d:\d\d:\d\d\] ")  # the start of a record of log.txt
REMOVED = "(removed)"
SECRETS = (
    # password: x, "api_key": "x", WANDB_API_KEY=x, --token x
    re.compile(
        r"(?i)((?:passw(?:or)?d|secret|credentials?|api_?key|access_?key|\btoken|_token)"
        r"[\\\"']*(?:\s*[:=,]\s*|\s+)[\\\"']*)[^\s\\\"',}\]]+"
    ),
    re.compile(r"(?i)(\bauthorization:\s*(?:bearer|basic)\s+)\S+"),
    re.compile(r"(\w+://)[^\s/@]+@"),  # https://user:password@host
    re.compile(r"(?i)([?&](?:token|key|sig|signature|x-amz-[\w-]+)=)[^&\s\"']+"),
    re.compile(r"()\b(?:hf_|ghp_|github_pat_|glpat-|AKIA|sk-)[\w-]{12,}"),
)
HOMES = re.compile(r"(?<!\w)(?:/(?:home|Users)/[^/\s\"':]+|/root(?=/))")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="OUTPUT_DIR", help="folder of the run")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the zip file (report_NAME.zip with the folder's name, in the current folder)",
    )
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit code."""
    args = make_parser().parse_args(arguments)
    folder = args.folder.resolve()
    if not folder.is_dir():
        raise OptionError(f"{args.folder}: there is no such folder")
    output = args.output or Path(f"report_{folder.name}.zip")
    if output.exists():
        raise OptionError(f"{output}: exists; choose another file with --output")
    parts = dict(contents(folder))
    with replacing(output) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    size = output.stat().st_size / 1000
    print(f"{output}: {len(parts)} files, {size:.0f} kB; look through them before you send them")
    return 0


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of the report."""
    yield "doctor.txt", cleaned("\n".join(f"{f.name:<15}{f.text}" for f in check(quick=True)))
    yield "files.txt", cleaned("\n".join(listed(folder)))
    if traceback := last_traceback(folder / "log.txt"):
        yield "traceback.txt", cleaned(traceback)
    for pattern in TEXTS:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not path.is_symlink():
                yield f"run/{path.relative_to(folder)}", cleaned("".join(last_lines(path)))


def listed(folder: Path) -> Iterator[str]:
    """Yield a line for each file with its size in bytes; links are not followed."""
    paths = (
        Path(place, name)
        for place, folders, names in os.walk(folder)
        for name in sorted(names + [each for each in folders if Path(place, each).is_symlink()])
    )
    for path in islice(paths, MAX_LISTED):
        yield f"{path.lstat().st_size:>12} {path.relative_to(folder)}"
    if more := sum(1 for _ in paths):
        yield f"and {more} more"


def last_lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in deque(file, LAST_LINES):
            yield line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ...\n"


def last_traceback(log: Path) -> str:
    """The last traceback in a log file, however far from its end; "" without one."""
    found: list[str] = []
    is_inside = False
    if not log.is_file():
        return ""
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if TRACEBACK in line and not is_inside:
                found, is_inside = [], True
            is_inside = is_inside and not RECORD.match(line)
            if is_inside:
                found.append(line)
    return "".join(found)


def cleaned(text: str) -> str:
    """The text without passwords, keys, home folders and the name of this machine."""
    for pattern in SECRETS:
        text = pattern.sub(rf"\g<1>{REMOVED}", text)
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    text = HOMES.sub("~", text)
    node = platform.node()
    return re.sub(rf"\b{re.escape(node)}\b", "(machine)", text) if len(node) > 3 else text


if __name__ == "__main__":
    sys.exit(main())
