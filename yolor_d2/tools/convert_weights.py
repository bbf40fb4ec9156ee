"""Convert the weights of a published network to a checkpoint of yolor_d2.

    python -m yolor_d2.tools.convert_weights yolov7-u6.pt weights.safetensors

The network is recognized by the names of its weights. A .safetensors file also contains the
configuration, so `yolor-d2 predict --weights` needs no other file. A .pth file can be used as
MODEL.WEIGHTS by detectron2's checkpointer. No code in the input is run. The weights keep their
authors' license. Exit code 2: the input cannot be converted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..checkpoint.conversion import convert_file
from ..checkpoint.published import NETWORKS
from .errors import one_line_errors


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", help=f"one of {', '.join(NETWORKS)}; default: recognized from the file"
    )
    parser.add_argument("input", type=Path, metavar="IN", help="published file")
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="file to write: *.safetensors or *.pth"
    )
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one file; returns the exit code."""
    args = make_parser().parse_args(arguments)
    network, count = convert_file(args.input, args.output, version=__version__, source=args.source)
    print(f"{args.output}: {count} entries of {network.name}")
    print(f"license of the weights: {network.publication.license}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
