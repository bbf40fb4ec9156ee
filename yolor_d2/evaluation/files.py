"""Writing results, whole or not at all."""

import json
import math
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a file that other processes see either as it was or complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def json_number(number: float) -> float | None:
    """What JSON has in place of a number: null where it is infinite or none at all."""
    return float(number) if math.isfinite(number) else None


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write JSON, without the NaN that JSON does not know."""
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    write_text(path, text + "\n")
