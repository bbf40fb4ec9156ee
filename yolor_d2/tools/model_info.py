"""Print parameters and GFLOPs of a configuration's network, part by part.

    python -m yolor_d2.tools.model_info --config-file FILE [--size 640] [KEY VALUE ...]

Overrides of a LazyConfig (FILE ends in .py) are key=value.

One GFLOP is a billion multiplications or additions in convolutions, linear layers and attention,
counted by fvcore for one image. Captions are counted as one decoder pass over 20 tokens.
"""

import argparse
import sys
from collections.abc import Sequence

from ..modeling.backbone import SIZE_DIVISIBILITY
from ..modeling.statistics import build_network, statistics_table
from .errors import one_line_errors


@one_line_errors("model_info")
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--size", type=int, default=640, help="side of the square image (640)")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    args = parser.parse_args(arguments)
    if args.size < 1 or args.size % SIZE_DIVISIBILITY:
        raise ValueError(f"--size must be a multiple of {SIZE_DIVISIBILITY}, not {args.size}")
    print(statistics_table(build_network(args.config_file, args.overrides), size=args.size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
