"""Options that several tools have."""

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """An option's value."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def add_picture_options(parser: argparse.ArgumentParser, *, number: int, counted: str) -> None:
    """Which configuration to draw from, where to, and how much.

    Args:
        parser: gets them.
        number: of what is counted, if nobody says another one.
        counted: what that is.
    """
    parser.add_argument("--config-file", required=True, help="a file of configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder for what is drawn")
    parser.add_argument(
        "--number", type=positive, default=number, metavar="N", help=f"{counted} ({number})"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the configuration")


def add_score_threshold(parser: argparse.ArgumentParser) -> None:
    """From which score on objects are drawn."""
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.25,
        metavar="S",
        help="objects below are left out (0.25)",
    )
