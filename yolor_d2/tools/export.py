"""Export a trained network as graphs that run without detectron2 and yolor_d2.

    yolor-d2 export --weights FILE --output DIR [--format onnx|openvino|torchscript|torch_export]
        [--end-to-end] [--int8 --calibrate DATA | --fp16] [--evaluate DATA] [KEY VALUE ...]

Writes one graph with the network up to the visual tokens, two with the caption decoder, model.json,
the tokenizer and, for ONNX and OpenVINO, runner.py, which needs neither PyTorch nor detectron2. The
outputs of the graphs are compared with the network's. DATA is a registered data set, or labeled
data in a format of docs/reference/data_formats.md. Exit code 1: outputs differ; 2: the export
failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..engine.launch.arguments import add_import, import_modules
from ..engine.network_evaluation import evaluate_images
from ..errors import ExportError, print_error
from ..export.bundle import (
    RUN_BY_RUNNER,
    Form,
    calibration_feeds,
    canvas_sizes,
    export,
    load_runner,
)
from ..export.evaluation import (
    ExportedModel,
    NetworkModel,
    PixelMapper,
    metrics_of,
    table_of,
    tasks_of,
)
from ..export.graphs import SUFFIXES
from ..export.parity import TOLERANCE
from ..export.parity import table_of as table_of_differences
from ..inference.loading import Network, load_network
from .errors import FAILED, one_line_errors
from .evaluate import registered_names
from .options import add_overrides


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint or release")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument(
        "--config-file", metavar="FILE", help="use instead of the configuration in --weights"
    )
    parser.add_argument("--format", choices=list(SUFFIXES), default="onnx")
    parser.add_argument(
        "--end-to-end",
        action="store_true",
        help="include post-processing: the graph returns results on the image",
    )
    precision = parser.add_mutually_exclusive_group()
    for name, what in (
        ("fp16", "export in float16, for GPUs"),
        ("int8", "export in int8; needs --calibrate"),
    ):
        precision.add_argument(
            f"--{name}", action="store_const", const=name, dest="precision", help=what
        )
    parser.set_defaults(precision="fp32")
    parser.add_argument(
        "--calibrate", metavar="DATA", help="images that determine the value ranges of int8"
    )
    parser.add_argument(
        "--evaluate", metavar="DATA", help="evaluate and compare exported files and network"
    )
    add_import(parser)
    add_overrides(parser)
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Export, compare and evaluate; returns the exit code."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    if (args.precision == "int8") != bool(args.calibrate):
        parser.error("--int8 and --calibrate DATA belong together")
    if args.evaluate and args.format not in RUN_BY_RUNNER:
        parser.error(f"--evaluate is for {' and '.join(RUN_BY_RUNNER)}, not {args.format}")
    form = Form(args.format, args.precision, args.end_to_end)
    form.check()
    import_modules(args.modules)
    network = load_network(
        args.config_file or args.weights,
        weights=args.weights if args.config_file else None,
        device="cpu",
        opts=args.opts,
    )
    args.output.mkdir(parents=True, exist_ok=True)
    names = _data_sets(network, args.calibrate, args.output)
    differences = export(
        network,
        weights=args.weights,
        folder=args.output,
        form=form,
        sizes=canvas_sizes(network.recipe.test_size, network.model.canvas_divisor),
        calibration=calibration_feeds(network, names[0]) if names else (),
        on_write=lambda path: print(f"writing {path}", flush=True),
    )
    largest = max(each.error for each in differences)
    print(f"\n{table_of_differences(differences)}\n")
    print(f"the largest is {largest:.1e}, at most {TOLERANCE} is allowed; {args.output} is ready")
    if args.format in RUN_BY_RUNNER:
        print(f"python {args.output / 'runner.py'} IMAGE")
        for name in _data_sets(network, args.evaluate, args.output):
            _evaluate(network, name, args.output)
    if largest > TOLERANCE:
        print_error(ExportError("outputs of the graphs differ from the network's"))
        return FAILED
    return 0


def _data_sets(network: Network, data: str | None, folder: Path) -> list[str]:
    if data is None:
        return []
    return registered_names(data, network.metadata, network.tasks, folder=folder / "data")


def _evaluate(network: Network, name: str, folder: Path) -> None:
    """Print the metrics and times of the exported files and of the network."""
    runner = load_runner().Runner(folder, threads=torch.get_num_threads())
    form = (runner.facts[key] for key in ("format", "precision"))
    extent = ", end to end" if runner.facts["end_to_end"] else ""
    models = {
        "PyTorch, channels_last": NetworkModel(network),
        f"{', '.join(form)}{extent}": ExportedModel(runner),
    }
    rows: dict[str, dict[str, float]] = {}
    for title, model in models.items():
        results = evaluate_images(
            model,
            name,
            tasks=tasks_of(runner.facts),
            mapper=PixelMapper(),
            output_dir=str(folder / "evaluation" / ("exported" if rows else "network")),
            settings={"meteor": False},
        )
        rows[title] = metrics_of(results) | model.milliseconds()
    print(f"\n{name}, milliseconds per image on {torch.get_num_threads()} CPU threads\n")
    print(table_of(rows))


if __name__ == "__main__":
    sys.exit(main())
