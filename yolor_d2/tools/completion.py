"""Print a shell script that completes commands, flags and files of yolor-d2.

    yolor-d2 completion bash > ~/.local/share/bash-completion/completions/yolor-d2

For zsh, write the file _yolor-d2 in a folder of $fpath. Requires shtab:
pip install 'yolor_d2[completion]'.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import PackageError
from .errors import one_line_errors

SHELLS = ("bash", "zsh", "tcsh")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the script; returns the exit code."""
    args = make_parser().parse_args(arguments)
    if find_spec("shtab") is None:
        raise PackageError("shtab is not installed: pip install 'yolor_d2[completion]'")
    from yolor_d2_cli import MODULES, SUMMARIES

    print(script(args.shell, MODULES, SUMMARIES))
    return 0


def script(shell: str, modules: Mapping[str, str], summaries: Mapping[str, str]) -> str:
    """Return the script.

    Args:
        shell: one of SHELLS.
        modules: modules of yolor_d2.tools by the names of their commands.
        summaries: a line about each command.
    """
    import shtab

    parser = argparse.ArgumentParser(prog="yolor-d2")
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, module in modules.items():
        tool = importlib.import_module(f"yolor_d2.tools.{module}")
        parents = [tool.make_parser()] if hasattr(tool, "make_parser") else []
        command = commands.add_parser(
            name, help=summaries[name], parents=parents, add_help=not parents
        )
        for action in command._actions:
            # Values that are no choice are files, folders or numbers.
            if action.type is Path or action.metavar in ("FILE", "DIR", "DATA", "IMAGES"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            if action.nargs == argparse.REMAINDER:
                action.nargs = "*"  # shtab completes no flags after a remainder
    return str(shtab.complete(parser, shell=shell))


if __name__ == "__main__":
    sys.exit(main())
