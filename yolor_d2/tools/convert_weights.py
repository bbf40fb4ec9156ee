"""Convert the weights of a published network to a checkpoint of yolor_d2.

    python -m yolor_d2.tools.convert_weights --source yolov7-af-pan yolov7-af-pan.pt weights.pth

The output is a MODEL.WEIGHTS for configs/COCO/yolor_elan_{det,seg,pan}.yaml; the published semantic
map has 173 classes (MODEL.SEM_SEG_HEAD.NUM_CLASSES). No code in the input is executed. Exit code 2:
the input cannot be converted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..checkpoint.conversion import convert_file
from ..checkpoint.foreign import SOURCES
from .errors import one_line_errors


@one_line_errors("convert_weights")
def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one file; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("input", type=Path, metavar="IN", help="published file")
    parser.add_argument("output", type=Path, metavar="OUT", help="checkpoint to write, *.pth")
    args = parser.parse_args(arguments)
    count = convert_file(args.source, args.input, args.output, version=__version__)
    print(f"{args.output}: {count} entries of {args.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
