"""Write a release of a checkpoint: a small weight file that is safe to load.

    python -m yolor_d2.tools.release_weights output/model_best.pth yolor.safetensors

The release contains weights, tokenizer, configuration, class names, commit and the fingerprint of
the data, and can be used as MODEL.WEIGHTS. Exit code 2: it cannot be written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..checkpoint.release import DTYPES, write_release
from ..checkpoint.weights import KINDS, read_weights
from ..errors import CheckpointError
from .errors import one_line_errors


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", choices=KINDS, help="weights to release (ema if available)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="fp16 halves the size")
    parser.add_argument("input", type=Path, metavar="IN", help="checkpoint")
    parser.add_argument("output", type=Path, metavar="OUT", help="release to write, *.safetensors")
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Write one file; returns the exit code."""
    args = make_parser().parse_args(arguments)
    stored = read_weights(args.input, prefer=args.weights or "ema")
    if args.weights not in (None, stored.kind):
        raise CheckpointError(f"{args.input}: has no {args.weights} weights")
    write_release(stored, args.output, dtype=args.dtype)
    size = args.output.stat().st_size / 1e6
    kind = f"{stored.kind} " if stored.kind else ""
    print(f"{args.output}: {len(stored.tensors)} {kind}tensors, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
