"""The log file of a run, which cannot end the run or flood the terminal."""

import logging
import os
import sys
from pathlib import Path

from ..errors import message_of


class LogFile(logging.FileHandler):
    """Appends records to a file.

    Records that cannot be written, for example to a full disk, are lost: the first one costs a line
    on the terminal.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, encoding="utf-8")
        self.setFormatter(
            logging.Formatter(
                "[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S"
            )
        )
        self._has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_failed:
            self._has_failed = True
            lost = f"{self.baseFilename}: cannot be written, lines are lost"
            sys.stderr.write(f"{lost}: {message_of(error)}\n")


def log_files(log: logging.Logger, path: Path) -> list[LogFile]:
    """The handlers of a logger that write to a file."""
    found = (handler for handler in log.handlers if isinstance(handler, LogFile))
    return [file for file in found if file.baseFilename == os.path.abspath(path)]
