"""Make a file of weights for others out of a checkpoint: small, safe to load, of known origin.

    python -m yolor_d2.tools.release_weights output/model_best.pth yolor.safetensors

It holds the weights, the tokenizer, the configuration, the names of the classes, the commit and the
data's fingerprint; MODEL.WEIGHTS takes it. Exit code 2: it cannot be made.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..checkpoint.release import DTYPES, write_release
from ..checkpoint.weights import KINDS, read_weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Make one file; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", choices=KINDS, help="which ones; by default ema, if it has it")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="fp16 halves the file")
    parser.add_argument("input", type=Path, metavar="IN", help="the checkpoint")
    parser.add_argument("output", type=Path, metavar="OUT", help="the file, *.safetensors")
    options = parser.parse_args(arguments)
    try:
        stored = read_weights(options.input, prefer=options.weights or "ema")
        if options.weights not in (None, stored.kind):
            raise ValueError(f"{options.input}: has no {options.weights} weights")
        write_release(stored, options.output, dtype=options.dtype)
    except (ValueError, OSError) as error:
        print(f"release_weights: {error}", file=sys.stderr)
        return 2
    size = options.output.stat().st_size / 1e6
    kind = f"{stored.kind} " if stored.kind else ""
    print(f"{options.output}: {len(stored.tensors)} {kind}tensors, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
