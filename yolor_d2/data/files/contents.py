"""Reading whole files."""

from pathlib import Path

from ..errors import BadFileError


def read_bytes(path: str) -> bytes:
    """A file's content; a BadFileError where there is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(path, error.strerror or "cannot be read") from None
    if not data:
        raise BadFileError(path, "is empty")
    return data
