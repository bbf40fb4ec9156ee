"""Run the fuzzer.

    python -m tests.fuzz TARGET [--minutes M | --cases N] [--seed S]
    python -m tests.fuzz --list
    python -m tests.fuzz --replay FILE

A case depends only on target, seed and index. Each new finding is a file in output/fuzz, which
--replay runs. Exit code 1: there are findings.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch

from .campaign import replay, run_campaign
from .cases import load_case
from .targets import TARGETS

ALL = "all"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", nargs="?", choices=[*TARGETS, ALL], metavar="TARGET")
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M", help="each target (1)")
    parser.add_argument("--cases", type=int, metavar="N", help="stop after N cases")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="(0)")
    parser.add_argument(
        "--output", type=Path, default=Path("output/fuzz"), metavar="DIR", help="(output/fuzz)"
    )
    parser.add_argument("--list", action="store_true", help="list the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the case of a finding")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments name; returns the exit code."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if args.list:
        for name, target in TARGETS.items():
            print(f"{name:12} {target.about}")  # noqa: T201
        return 0
    if args.replay is not None:
        name, case = load_case(args.replay)
        outcome = replay(TARGETS[name], case)
        print(f"{name}: {case.what}: {outcome.kind}: {outcome.detail} {outcome.place}")  # noqa: T201
        return int(outcome.is_finding)
    if args.target is None:
        parser.error("TARGET, --list or --replay is required")
    names = list(TARGETS) if args.target == ALL else [args.target]
    return max([fuzz(name, args) for name in names])


def fuzz(name: str, args: argparse.Namespace) -> int:
    """Fuzz one target and print the result."""
    tally = run_campaign(
        name,
        TARGETS[name],
        seed=args.seed,
        minutes=args.minutes,
        cases=args.cases,
        folder=args.output,
    )
    print(f"{name}: {tally.summary()}", flush=True)  # noqa: T201
    for key, (index, outcome) in tally.findings.items():
        where = args.output / f"{name}-{args.seed}-{index}.json"
        print(f"  {key} ({tally.repeats[key]} times): {outcome.detail}: {where}")  # noqa: T201
    return int(bool(tally.findings))


if __name__ == "__main__":
    sys.exit(main())
