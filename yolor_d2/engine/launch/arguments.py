"""The command line of training and evaluation: detectron2's, and a few flags of ours."""

import argparse
from collections.abc import Sequence
from typing import Any

from detectron2.engine import default_argument_parser


def argument_parser() -> argparse.ArgumentParser:
    """detectron2's parser, its flags unchanged, with those that our trainer has besides."""
    known = default_argument_parser()
    parser = _Parser(
        parents=[known],
        add_help=False,  # comes with the parent
        epilog=known.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same seed gives the same numbers, bit for bit, at some cost of time",
    )
    parser.add_argument(
        "--check-cluster",
        action="store_true",
        help="check the processes, their code, GPUs, clocks and folders, and train nothing",
    )
    parser.add_argument(
        "--allow-config-change",
        action="store_true",
        help="with --resume: go on although the configuration is not the one of the run",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start a new run in a folder that holds one, which is lost",
    )
    return parser


class _Parser(argparse.ArgumentParser):
    """Sees to what argparse lets pass."""

    # Typed as argparse's own stubs are, which tell several calls apart.
    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        parsed = super().parse_args(args, namespace)
        for word in parsed.opts:
            # What stands after the first option is taken for options, flags too.
            if word.startswith("--"):
                self.exit(2, f"{self.prog}: error: {word} must stand before {parsed.opts[0]}\n")
        if parsed.resume and parsed.overwrite:
            self.exit(2, f"{self.prog}: error: --resume keeps the run that --overwrite removes\n")
        return parsed
