"""Command-line options that several tools share."""

import argparse
from pathlib import Path
from typing import Any

from ..engine.launch.arguments import add_import, import_modules
from ..inference.predictor import Predictor
from ..tasks import TASKS


def positive(text: str) -> int:
    """Convert an option's value to an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def share(text: str) -> float:
    """Convert an option's value to a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add weights, device, tasks, modules and, last, overrides of the configuration."""
    add_weights_options(parser)
    add_overrides(parser)


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """Add weights, device, tasks and modules."""
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint or release")
    parser.add_argument(
        "--config-file", metavar="FILE", help="configuration of weights that do not contain one"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="tasks to run (all)")
    parser.add_argument("--device", help="cuda, cpu, ... (a GPU if available)")
    add_import(parser)


def load_predictor(args: argparse.Namespace, **settings: Any) -> Predictor:
    """Make the predictor of `add_network_options`; `settings` are more arguments of `Predictor`."""
    import_modules(args.modules)
    return Predictor(args.config_file or args.weights, **loading_options(args), **settings)


def loading_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `load_network` after the first, from `add_network_options`."""
    return {
        "weights": args.weights if args.config_file else None,
        "device": args.device,
        "tasks": args.tasks,
        "opts": args.opts,
    }


def add_picture_options(parser: argparse.ArgumentParser, *, number: int, counted: str) -> None:
    """Add configuration, output folder, number of pictures and, last, overrides.

    Args:
        parser: gets the options.
        number: default of --number.
        counted: what --number counts, for the help.
    """
    parser.add_argument("--config-file", required=True, help="a file, or a name of the model zoo")
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--number", type=positive, default=number, metavar="N", help=f"{counted} ({number})"
    )
    add_import(parser)
    add_overrides(parser)


def add_score_threshold(parser: argparse.ArgumentParser) -> None:
    """Add the score threshold of drawn objects."""
    parser.add_argument(
        "--score-threshold",
        type=share,
        default=0.25,
        metavar="S",
        help="score threshold of drawn objects (0.25)",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add KEY VALUE pairs, which take the rest of the command line."""
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="KEY VALUE ...: configuration overrides"
    )
