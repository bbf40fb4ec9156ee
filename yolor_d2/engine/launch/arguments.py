"""The command line of training and evaluation: detectron2's flags and ours."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from detectron2.engine import default_argument_parser

from ...errors import OptionError


def argument_parser() -> argparse.ArgumentParser:
    """detectron2's parser with additional flags."""
    known = default_argument_parser()
    parser = _Parser(
        parents=[known],
        add_help=False,  # the parent has it
        epilog=known.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="make results reproducible bit by bit, at some cost of time",
    )
    parser.add_argument(
        "--check-cluster",
        action="store_true",
        help="check the processes, their code, GPUs, clocks and folders, without training",
    )
    parser.add_argument(
        "--allow-config-change",
        action="store_true",
        help="with --resume: continue although the configuration differs from that of the run",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start a new run in the folder of another run, which is removed",
    )
    add_import(parser)
    return parser


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the modules that `import_modules` imports."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers data sets or heads; repeatable",
    )


def import_modules(names: Sequence[str]) -> None:
    """Import modules, which can be in the current folder.

    Raises:
        ValueError: a module cannot be found.
    """
    if names and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())  # as with `python -m`
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise OptionError(f"--import {name}: {error}") from error


class _Parser(argparse.ArgumentParser):
    """A parser with additional checks."""

    # The stubs of argparse have overloads.
    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        parsed = super().parse_args(args, namespace)
        for word in parsed.opts:
            # argparse treats flags after the first KEY VALUE pair as options.
            if word.startswith("--"):
                self.exit(2, f"{self.prog}: error: {word} must come before {parsed.opts[0]}\n")
        if parsed.resume and parsed.overwrite:
            self.exit(2, f"{self.prog}: error: --resume and --overwrite exclude each other\n")
        return parsed
