"""Reading and writing whole files."""

import os
from pathlib import Path

from .errors import BadFileError


def read_bytes(path: str) -> bytes:
    """A file's content; a BadFileError where there is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(path, error.strerror or "cannot be read") from None
    if not data:
        raise BadFileError(path, "is empty")
    return data


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
