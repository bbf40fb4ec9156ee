"""Print the parameters and GFLOPs of a network by part; for weights, also their history.

    yolor-d2 info --config-file FILE [--size 640] [KEY VALUE ...]
    yolor-d2 info --weights FILE

--weights is a checkpoint or release that contains its configuration, or a published file. Its
history: command, commit, versions, data, and the metrics of each evaluation. Overrides of a
LazyConfig are key=value.

One GFLOP is a billion multiplications or additions in convolutions, linear layers and attention,
counted by fvcore for one image. Captions count as one decoder pass over 20 tokens.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..checkpoint.history import weights_page
from ..checkpoint.weights import read_weights
from ..engine.launch.arguments import add_import, import_modules
from ..errors import OptionError
from ..inference.loading import load_network
from ..modeling.backbone import SIZE_DIVISIBILITY
from ..modeling.statistics import build_network, statistics_table
from .errors import one_line_errors


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", metavar="FILE", help="a file, or a name of the model zoo")
    source.add_argument("--weights", metavar="FILE", help="checkpoint or release")
    parser.add_argument("--size", type=int, default=640, help="side of the square image (640)")
    add_import(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    args = make_parser().parse_args(arguments)
    if args.size < 1 or args.size % SIZE_DIVISIBILITY:
        raise OptionError(f"--size must be a multiple of {SIZE_DIVISIBILITY}, not {args.size}")
    import_modules(args.modules)
    if args.weights:
        opts = args.overrides
        network: nn.Module = load_network(args.weights, device="cpu", opts=opts, folded=False).model
        print(weights_page(read_weights(args.weights), Path(args.weights)), end="\n\n")
    else:
        network = build_network(args.config_file, args.overrides)
    print(statistics_table(network, size=args.size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
