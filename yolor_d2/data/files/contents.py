"""Reading whole files."""

from pathlib import Path

from ..errors import BadFileError


def read_bytes(path: str) -> bytes:
    """Return the content of a file; raise a BadFileError if it is missing or empty."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(path, error.strerror or "cannot be read") from None
    if not data:
        raise BadFileError(path, "is empty")
    return data
