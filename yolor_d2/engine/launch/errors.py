"""Error lines that begin with the command as typed."""

import sys
from pathlib import Path


def print_error(error: object, *, program: str = "") -> None:
    """Print one line: "yolor-d2 train: ..." or, without the console script, "train_net.py: ...".

    Args:
        error: an exception, or a message.
        program: name instead of the script's; "": none.
    """
    typed = sys.argv[0]
    command = typed if typed.startswith("yolor-d2 ") else program or Path(typed).name
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    line = " ".join(part.strip() for part in str(message).splitlines())
    sys.stderr.write(f"{command}: {line}\n")
