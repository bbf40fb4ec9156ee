"""Export a trained network as graphs that run without detectron2 and yolor_d2.

python -m yolor_d2.tools.export --weights FILE --output DIR [--config-file FILE]
    [--format onnx|torchscript|torch_export] [KEY VALUE ...]

Writes one graph with the network up to the visual tokens, two with the caption decoder, model.json,
the tokenizer and, for ONNX, runner.py, which needs neither PyTorch nor detectron2. The outputs of
the graphs are compared with the network's. Exit code 1: they differ; 2: the export failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..engine.launch.arguments import add_import, import_modules
from ..engine.launch.errors import print_error
from ..export.bundle import canvas_sizes, check_installed, export
from ..export.graphs import SUFFIXES
from ..export.parity import TOLERANCE, table_of
from ..inference.loading import load_network
from .errors import FAILED, one_line_errors
from .options import add_overrides


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint or release")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--config-file", metavar="FILE", help="replaces the configuration in --weights"
    )
    parser.add_argument("--format", choices=list(SUFFIXES), default="onnx")
    add_import(parser)
    add_overrides(parser)
    return parser


@one_line_errors("export", KeyError)
def main(arguments: Sequence[str] | None = None) -> int:
    """Export and compare; returns the exit code."""
    args = make_parser().parse_args(arguments)
    check_installed(args.format)
    import_modules(args.modules)
    network = load_network(
        args.config_file or args.weights,
        weights=args.weights if args.config_file else None,
        device="cpu",
        opts=args.opts,
    )
    args.output.mkdir(parents=True, exist_ok=True)
    differences = export(
        network,
        weights=args.weights,
        folder=args.output,
        kind=args.format,
        sizes=canvas_sizes(network.recipe.test_size, network.model.canvas_divisor),
        on_write=lambda path: print(f"writing {path}", flush=True),
    )
    largest = max(each.error for each in differences)
    print(f"\n{table_of(differences)}\n")
    print(f"the largest is {largest:.1e}, at most {TOLERANCE} is allowed; {args.output} is ready")
    if args.format == "onnx":
        print(f"python {args.output / 'runner.py'} IMAGE")
    if largest > TOLERANCE:
        print_error("outputs of the graphs differ from the network's", program="export")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
