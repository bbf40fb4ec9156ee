"""Text files, read with errors that name the line."""

import re
from pathlib import Path

from ...errors import BadFileError, DataError, LabelError
from ..files.contents import read_bytes


def read_text(path: Path) -> str:
    """Return the content of a text file; "" if it is empty."""
    try:
        if path.is_file() and not path.stat().st_size:
            return ""
        return read_bytes(str(path)).decode("utf-8-sig")
    except BadFileError as error:
        raise DataError(str(error)) from None
    except UnicodeDecodeError:
        raise LabelError(f"{path}: is not a text file in UTF-8") from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers from 1."""
    lines = enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def line_error(path: Path, number: int, problem: str) -> LabelError:
    """Return an error that names file and line."""
    return LabelError(f"{path}, line {number}: {problem}")
