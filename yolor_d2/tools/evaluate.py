"""Evaluate a checkpoint or an exported network on test sets or on labeled data.

    yolor-d2 eval --weights FILE [--data DATA] [--output DIR] [KEY VALUE ...]

Configuration, classes and tokenizer are those in the checkpoint. DATA is a registered data set, or
a file or folder in a format of docs/reference/data_formats.md: its parts val and test or, if it
has no parts, all images; by default, the test sets of the configuration. FILE can be vision.onnx
or vision.xml of a folder of yolor-d2 export: --data is required, and the folder's programs are not
run. Writes metrics.json and the other files of docs/guides/evaluation.md. Exit code 2: wrong use or
bad data.
"""

import argparse
import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata
from detectron2.utils import comm

from ..data.catalog.class_tables import make_metadata, registered
from ..data.catalog.records import reading_once
from ..data.catalog.registered import require_registered
from ..data.formats.registration import register_test_data
from ..engine.launch.arguments import argument_parser, import_modules
from ..engine.launch.processes import launch
from ..engine.network_evaluation import check_classes, evaluate_images, evaluate_network
from ..engine.setup import logged_errors, open_folder
from ..errors import DataError, ExportError, OptionError
from ..export.bundle import load_runner
from ..export.evaluation import ExportedModel, PixelMapper, metrics_of, table_of, tasks_of
from ..inference.loading import Network, load_network
from .errors import one_line_errors
from .options import add_network_options, loading_options

EXPORTED = (".onnx", ".xml")  # suffixes of graphs that the runner opens
EPILOG = """Without --weights, the command runs train_net.py --eval-only, with its flags:

    yolor-d2 eval --config-file FILE MODEL.WEIGHTS FILE
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DATA", help="registered data set, or labeled data")
    parser.add_argument(
        "--output", type=Path, default=Path("output/eval"), metavar="DIR", help="(output/eval)"
    )
    add_network_options(parser)
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, on all GPUs; returns the exit code."""
    args = make_parser().parse_args(arguments)
    is_single = args.device or Path(args.weights).suffix in EXPORTED
    count = 1 if is_single else max(torch.cuda.device_count(), 1)
    flags = argument_parser().parse_args(["--eval-only", "--num-gpus", str(count)])
    launch(evaluate, Namespace(**vars(flags) | vars(args)))
    return 0


def evaluate(args: Namespace) -> None:
    """Evaluate in one of the processes."""
    with logged_errors(), reading_once():
        import_modules(args.modules)
        if Path(args.weights).suffix in EXPORTED:
            evaluate_exported(args)
            return
        network = load_network(args.config_file or args.weights, **loading_options(args))
        open_folder(str(args.output), args, sources=())
        names = find_data(network, args.data, folder=args.output / "data")
        evaluate_network(network, names, output_dir=str(args.output))
    if comm.is_main_process():
        print(f"the results are in {args.output / 'metrics.json'}")


def evaluate_exported(args: Namespace) -> None:
    """Evaluate a folder of yolor-d2 export with the runner of this package."""
    path = Path(args.weights)
    if not args.data:
        raise OptionError(f"{path}: an exported network names no data set; pass --data DATA")
    if args.opts or args.config_file or args.tasks or args.device:
        raise OptionError(
            f"{path}: --config-file, --tasks, --device and KEY VALUE are for checkpoints"
        )
    if not (path.parent / "model.json").is_file():
        raise ExportError(f"{path}: there is no model.json beside it, as yolor-d2 export writes")
    runner = load_runner().Runner(path, threads=torch.get_num_threads())
    open_folder(str(args.output), args, sources=())
    tasks = tasks_of(runner.facts)
    with registered(make_metadata(runner.facts["classes"], runner.facts["class_ids"])) as metadata:
        for name in registered_names(args.data, metadata, tasks, folder=args.output / "data"):
            model, output = ExportedModel(runner), str(args.output)
            results = evaluate_images(
                model, name, tasks=tasks, mapper=PixelMapper(), output_dir=output
            )
            print(f"\n{name}, milliseconds per image on {torch.get_num_threads()} CPU threads\n")
            print(table_of({path.name: metrics_of(results) | model.milliseconds()}))


def registered_names(
    data: str, metadata: Metadata, tasks: Collection[str], *, folder: Path
) -> list[str]:
    """Return the data sets of an option: a registered one, or labeled data, which are registered.

    Args:
        data: value of the option.
        metadata, tasks: classes and tasks of the network.
        folder: gets the annotations of labeled data in COCO's format.
    """
    if Path(data).exists():
        return list(register_test_data(data, metadata, truth_folder=folder))
    require_registered([data])
    check_classes(data, metadata, tasks)
    return [data]


def find_data(network: Network, path: str | None, *, folder: Path) -> list[str]:
    """Return the names of the data sets to evaluate on, which are registered.

    Args:
        network: the evaluated network.
        path: registered or labeled data; None takes the data sets of the configuration.
        folder: gets the annotations of labeled data in COCO's format.
    """
    cfg, names = network.recipe.cfg, network.recipe.test_datasets
    own = cfg.DATASETS.DATA if isinstance(cfg, CfgNode) else ""
    source = path or own
    if path is not None and path in DatasetCatalog.list():
        names = [path]
    elif source:
        if path is None and not Path(own).exists():
            raise DataError(f"{own}: the checkpoint's own data are not there; pass --data DATA")
        sizes = register_test_data(source, network.metadata, truth_folder=folder, trained_on=own)
        if comm.is_main_process():
            parts = ", ".join(f"{number} images as {name}" for name, number in sizes.items())
            print(f"{source}: {parts}", flush=True)
        names = list(sizes) if path else names
    if not names:
        raise OptionError("the checkpoint names no data set to evaluate on; pass --data DATA")
    require_registered(names)
    return names


if __name__ == "__main__":
    sys.exit(main())
