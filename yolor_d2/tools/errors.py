"""Errors of the programs: one line that begins with the command."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

from yolor_d2_cli import MODULES

from ..errors import family_of, print_error

FAILED = 1
WRONG_USE = 2

COMMANDS = {module: f"yolor-d2 {command}" for command, module in MODULES.items()}
MODULE_COMMAND = "python -m yolor_d2.tools."

Arguments = ParamSpec("Arguments")


def one_line_errors(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Decorate a `main`: errors that users can cause are printed, and the exit code is 2."""

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        with program_named(command_of(main.__module__)):
            try:
                return main(*args, **kwargs)
            except Exception as error:
                if family_of(error) is None and not isinstance(error, ValueError | OSError):
                    raise
                print_error(error)
                return WRONG_USE

    return run


def command_of(module: str) -> str:
    """The command that runs a module of this package: "yolor-d2 demo" for toy_demo."""
    spec = sys.modules[module].__spec__  # __main__ has the name of the module that -m runs
    name = (spec.name if spec else module).rpartition(".")[2]
    return COMMANDS.get(name, f"{MODULE_COMMAND}{name}")


@contextmanager
def program_named(command: str) -> Iterator[None]:
    """Context in which help and errors begin with a command, except inside another command."""
    typed = sys.argv[0]
    if not typed.startswith(("yolor-d2 ", MODULE_COMMAND)):
        sys.argv[0] = command
    try:
        yield
    finally:
        sys.argv[0] = typed
