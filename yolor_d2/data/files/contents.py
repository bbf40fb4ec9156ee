"""Reading whole files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import BadFileError, DataError


def read_bytes(path: str) -> bytes:
    """Return the content of a file; raise a BadFileError if it is missing or empty."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(path, error.strerror or "cannot be read") from None
    if not data:
        raise BadFileError(path, "is empty")
    return data


def read_json(path: Path, *, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the content of a JSON file; raise a DataError if that fails.

    Args:
        path: the file.
        object_hook: replaces each object, as in `json.load`.
    """
    try:
        with path.open("rb") as file:
            return json.load(file, object_hook=object_hook)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: is not valid JSON ({error})") from None
