"""Errors of the programs: one line that begins with the command as typed."""

import functools
from collections.abc import Callable
from typing import ParamSpec

from ..engine.launch.errors import print_error

FAILED = 1
WRONG_USE = 2

Arguments = ParamSpec("Arguments")


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
                print_error(error, program=program)
                return WRONG_USE

        return run

    return decorate
