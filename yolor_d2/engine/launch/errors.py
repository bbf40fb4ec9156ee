"""Error lines that begin with the command as typed."""

import errno
import sys
from pathlib import Path

ADVICE = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some space"}


def print_error(error: object) -> None:
    """Print one line: "yolor-d2 train: ..." or, for a script, "train_net.py: ..."."""
    typed = sys.argv[0]
    command = typed if typed.startswith("yolor-d2 ") else Path(typed).name
    sys.stderr.write(f"{command}: {message_of(error)}\n")


def message_of(error: object) -> str:
    """The message of an exception, or any other text, in one line.

    Args:
        error: can be from a worker of PyTorch's loader, with a traceback as its message.
    """
    if isinstance(error, OSError) and error.strerror:
        parts = [error.filename, error.strerror, ADVICE.get(error.errno or 0)]
        return ": ".join(str(part) for part in parts if part is not None)
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    lines = [line.strip() for line in text.strip().splitlines()] or [""]
    if lines[0].startswith("Caught ") and "in DataLoader worker" in lines[0]:
        return lines[-1].partition(": ")[2] or lines[-1]  # without the name of the exception
    return " ".join(lines)
