"""Errors of the programs: one line that begins with the command as typed."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

FAILED = 1
WRONG_USE = 2

Arguments = ParamSpec("Arguments")


def print_error(program: str, error: object) -> None:
    """Print "predict: ..." or, started by the console script, "yolor-d2 predict: ..."."""
    command = sys.argv[0] if sys.argv[0].startswith("yolor-d2 ") else program
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    line = " ".join(part.strip() for part in str(message).splitlines())
    print(f"{command}: {line}", file=sys.stderr)


def one_line_errors(
    program: str, *others: type[Exception]
) -> Callable[[Callable[Arguments, int]], Callable[Arguments, int]]:
    """Decorate a `main`: errors that users can cause are printed, and the exit code is 2.

    Args:
        program: name of the tool, for the message.
        others: exceptions to handle besides ValueError and OSError.
    """
    handled: tuple[type[Exception], ...] = (ValueError, OSError, *others)

    def decorate(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
        @functools.wraps(main)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except handled as error:
                print_error(program, error)
                return WRONG_USE

        return run

    return decorate
