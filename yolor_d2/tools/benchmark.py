"""Measure the speed of data loading, networks and evaluation: runs a checkout's `benchmarks`."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import PackageError
from .errors import one_line_errors

CHECKOUT = Path(__file__).parents[2]


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks of the checkout; returns the exit code."""
    if not (CHECKOUT / "benchmarks/__main__.py").is_file():
        raise PackageError(
            "not part of the installed package; run `python -m benchmarks` in a checkout of the "
            "yolor_d2 repository"
        )
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    importlib.import_module("benchmarks.__main__").main(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
