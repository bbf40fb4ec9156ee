"""Splitting off images for validation."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ...errors import DataError
from .source import TRAIN, VAL, OwnData, Record

FRACTION = 0.1


def with_validation(data: OwnData) -> tuple[OwnData, bool]:
    """Return the data with a part for validation, and whether it was split off.

    A hash of the file's name decides, so that an image stays in its part when others are added
    (except to data of which no image has a hash for validation).
    """
    records = data.parts.get(TRAIN)
    if not records:
        raise DataError(f"{data.root}: has no labeled images to train on")
    if data.parts.get(VAL):
        return data, False
    if len(records) < 2:
        raise DataError(f"{data.root}: has one image with labels, training needs at least 2")
    chosen = _chosen((r["file_name"] for r in records), data.root)
    parts = {
        **data.parts,
        TRAIN: [r for r in records if r["file_name"] not in chosen],
        VAL: [r for r in records if r["file_name"] in chosen],
    }
    return _replaced(data, parts), True


def _replaced(data: OwnData, parts: dict[str, list[Record]]) -> OwnData:
    return OwnData(**{**vars(data), "parts": parts})


def _chosen(names: Iterable[str], root: Path) -> set[str]:
    """Return a tenth of the names, at least one and never all."""
    numbers = {name: _number(Path(os.path.relpath(name, root)).as_posix()) for name in names}
    ordered = sorted(numbers, key=numbers.__getitem__)
    below = [name for name in ordered if numbers[name] < FRACTION]
    return set(below[: len(ordered) - 1] or ordered[:1])


def _number(name: str) -> float:
    """Return a number between 0 and 1 that depends only on the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
