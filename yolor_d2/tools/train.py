"""Train on labeled data with a generated configuration, or with your own configuration.

    yolor-d2 train --data DATA [--tasks TASK ...] [--size n|s|m|l | --weights FILE]
        [--batch N|auto] [--minutes M | --epochs E] [--output DIR] [--resume | --overwrite]
        [KEY VALUE ...]
    yolor-d2 train --config-file FILE ...

With --config-file the command runs train_net.py. Its flags are at the end of this help.

Formats of DATA: COCO (JSON, export folders, official zip files), YOLO, Pascal VOC, LabelMe, CSV of
boxes, metadata.jsonl of captions, semantic PNGs; see docs/reference/data_formats.md. Writes the
configuration, the checkpoints, metrics.json and pictures to the output folder. Exit code 2:
wrong use or bad data.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode

from ..checkpoint.run_folder import RunFolder
from ..data.formats.registration import RegisteredData, register_own_data
from ..data.formats.source import TRAIN, VAL
from ..data.formats.summary import summary
from ..engine.launch.arguments import add_import, argument_parser, import_modules
from ..engine.launch.processes import launch
from ..engine.main import main as train_or_evaluate
from ..engine.own_data import SIZES, choose_config, describe_config, shortages
from ..engine.setup import check_new_run
from ..errors import OptionError, OutputError
from ..files import write_text
from ..inference.loading import stored_config
from ..model_zoo import load_config
from ..reports.predictions import draw_test_set
from ..tasks import TASKS
from .errors import one_line_errors
from .options import add_overrides, positive

CONFIG_FILE = "training.yaml"
PICTURES = 8
SCORE_THRESHOLD = 0.25
RUN_FLAGS = ("resume", "overwrite", "allow-config-change")  # passed on to train_net.py


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"With --config-file FILE:\n\n{argument_parser().format_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="DATA", help="file or folder of labeled data")
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=[], help="tasks to train (all with labels)"
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--size", choices=SIZES, help="size of the network (s on a GPU, otherwise n)"
    )
    network.add_argument(
        "--weights",
        metavar="FILE",
        help="start from a checkpoint or a published file, with its network",
    )
    parser.add_argument(
        "--batch",
        type=batch_size,
        metavar="N|auto",
        help="images per step (estimated); auto: the largest that fits, by trial steps",
    )
    time = parser.add_mutually_exclusive_group()
    time.add_argument("--minutes", type=float, metavar="M", help="approximate duration of the run")
    time.add_argument("--epochs", type=positive, metavar="E", help="passes over the images")
    parser.add_argument("--output", type=Path, metavar="DIR", help="(output/<data>)")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="continue the run in the output folder"
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="remove the run in the output folder"
    )
    parser.add_argument(
        "--allow-config-change",
        action="store_true",
        help="with --resume: continue although KEY VALUE pairs differ from those of the run",
    )
    add_import(parser)
    add_overrides(parser)
    return parser


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.data is None:
        parser.error("--data DATA or --config-file FILE is required")
    if args.minutes is not None and not 0 < args.minutes < 1e6:
        parser.error("--minutes must be positive")
    return args


def batch_size(text: str) -> int:
    """Convert the value of --batch; "auto" is 0."""
    return 0 if text == "auto" else positive(text)


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate and draw; returns the exit code."""
    args = parse_args(arguments)
    import_modules(args.modules)
    output = args.output or Path("output") / name_of(args.data)
    if not args.resume:
        check_new_run(RunFolder(output), overwrite=args.overwrite, sources=())
    found = register_own_data(args.data)
    for line in summary(found):
        print(line, flush=True)
    config_file = output / CONFIG_FILE
    if args.resume and config_file.is_file():
        cfg = read_config(config_file, found, args)
    else:
        cfg = choose_config(
            found,
            output_dir=output,
            tasks=args.tasks,
            size=args.size,
            network=None if args.weights is None else network_of(args.weights),
            batch=args.batch,
            epochs=args.epochs,
            minutes=args.minutes,
            overrides=args.opts,
        )
        write_text(config_file, cfg.dump())
    print(describe_config(cfg, len(found.data.parts[TRAIN])))
    for line in shortages(cfg, found):
        print(line)
    print(f"the configuration is in {config_file}", flush=True)
    launch(train_or_evaluate, argument_parser().parse_args(flags_of_run(config_file, args)))
    print_results(cfg, found)
    return 0


def name_of(data: str) -> str:
    """Return the name of a folder, or of a file without its suffix."""
    place = Path(os.path.abspath(data))
    return place.name if place.is_dir() else place.stem


def network_of(weights: str) -> CfgNode:
    """Return the configuration of the network in a file, with the file as MODEL.WEIGHTS."""
    cfg = stored_config(weights)
    if not isinstance(cfg, CfgNode):
        raise OptionError(f"--weights {weights}: has a LazyConfig, which needs --config-file")
    cfg.MODEL.WEIGHTS = weights
    return cfg


def read_config(file: Path, found: RegisteredData, args: argparse.Namespace) -> CfgNode:
    """Return the configuration of the run to resume, with the KEY VALUE pairs of the command.

    Raises:
        ValueError: the run is on other data, or the command chooses another configuration.
    """
    for flag in ("tasks", "size", "weights", "batch", "minutes", "epochs"):
        if getattr(args, flag) not in (None, []):  # 0 is --batch auto
            raise OptionError(f"--{flag}: --resume continues with the configuration in {file}")
    cfg = load_config(str(file), args.opts)
    if Path(cfg.DATASETS.DATA) != found.source.path:
        raise OutputError(f"{file}: is the configuration of a run on {cfg.DATASETS.DATA}")
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def flags_of_run(config_file: Path, args: argparse.Namespace) -> list[str]:
    """Return the flags of train_net.py for this command."""
    flags = ["--config-file", str(config_file)]
    flags += ["--num-gpus", str(max(torch.cuda.device_count(), 1))]
    flags += [f"--{name}" for name in RUN_FLAGS if getattr(args, name.replace("-", "_"))]
    flags += [f"--import={name}" for name in args.modules]
    return [*flags, *(args.opts if args.resume else ())]


def print_results(cfg: CfgNode, found: RegisteredData) -> None:
    """Draw pictures, and print where they are and how to predict."""
    output = Path(cfg.OUTPUT_DIR)
    weights, pictures = output / "model_final.pth", output / "pictures"
    pictures.mkdir(exist_ok=True)
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(weights), str(pictures)
    count = draw_test_set(cfg, number=PICTURES, threshold=SCORE_THRESHOLD)
    print(f"{count} pictures, labels above predictions, are in {pictures}")
    image = found.data.parts[VAL][0]["file_name"]
    flags = ["--weights", str(weights), "--input", image, "--output", str(output / "predicted")]
    print(shlex.join(["yolor-d2", "predict", *flags]))


if __name__ == "__main__":
    sys.exit(main())
