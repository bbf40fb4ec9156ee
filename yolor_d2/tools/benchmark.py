"""Measure how fast data, network and evaluation are: `python -m benchmarks` of a checkout."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks, or say where they are; the exit code."""
    if not (CHECKOUT / "benchmarks/__main__.py").is_file():
        print(
            "yolor-d2 benchmark: benchmarks are not part of the installed package; run "
            "`python -m benchmarks` in a checkout of the yolor_d2 repository",
            file=sys.stderr,
        )
        return 2
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    importlib.import_module("benchmarks.__main__").main(argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
