"""Atomic file writes: other processes see the old content or the new one, never a part."""

import json
import math
import os
from pathlib import Path
from typing import Any


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    replace_file(path, text.encode())


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file atomically; NaN and infinity raise a ValueError."""
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    write_text(path, text + "\n")


def json_number(number: float) -> float | None:
    """Return a number for JSON: None (null) if it is NaN or infinite."""
    return float(number) if math.isfinite(number) else None
