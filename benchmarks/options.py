"""Command-line options that several benchmarks share."""

import argparse

from yolor_d2.tools.options import positive


def add_repeats(parser: argparse.ArgumentParser) -> None:
    """Add the number of measurements."""
    parser.add_argument(
        "--repeats", type=positive, default=5, help="repeats; the median is reported (5)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device of the networks."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the number of CPU threads of PyTorch."""
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads (2)")


def add_peer(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the choice between a package to compare with and none."""
    parser.add_argument(
        "--peer",
        choices=(name, "none"),
        default=name,
        help=f"compare with this package, if it is installed ({name})",
    )
