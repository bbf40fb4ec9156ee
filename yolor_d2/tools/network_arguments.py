"""The network that a tool asks: what its command line says of it."""

import argparse
from typing import Any

from ..inference.predictor import Predictor
from ..tasks import TASKS


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Weights, device, tasks and, behind everything else, options of the configuration."""
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint or release")
    parser.add_argument(
        "--config-file", metavar="FILE", help="for weights without a configuration in them"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="by default all")
    parser.add_argument("--device", help="cuda, cpu, ...; by default a GPU, if there is one")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the configuration")


def load_predictor(args: argparse.Namespace, **settings: Any) -> Predictor:
    """The predictor that the arguments name; settings are the rest of `Predictor`'s."""
    return Predictor(
        args.config_file or args.weights,
        weights=args.weights if args.config_file else None,
        device=args.device,
        tasks=args.tasks,
        opts=args.opts,
        **settings,
    )
