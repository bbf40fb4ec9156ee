"""Checks of values in annotation files, which come from many programs."""

import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import LabelError

Json = dict[str, Any]

LARGEST = 1e7  # of a coordinate in pixels; pycocotools computes in integers of 32 bits
# Length of all outlines of an object in pixels, by the size of the image: pycocotools takes memory
# for five points in each, and OpenCV sorts all edges in each row.
LONGEST_OUTLINE, LONGEST_IN_SMALL_IMAGE, LONGEST_PER_PIXEL = 2e6, 1e4, 4
MAX_PIXELS = 2**32 - 1  # of an image; run lengths have 32 bits
MAX_SEGMENT_ID = 2**24 - 1
SHOWN = 80  # characters of a value in a message


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def is_text(value: Any) -> bool:
    """Whether a value is a text that can be a name of a file, and be printed."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:  # half of a character
        return False


def is_id(value: Any) -> bool:
    """Whether a value is a text or a whole number."""
    return is_text(value) or is_whole(value)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, such as 5 or 5.0."""
    return _is_number(value) and abs(value) < 2**63 and value == int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def are_coordinates(values: Any) -> bool:
    """Whether a value is a list of numbers that can be pixels."""
    try:
        return isinstance(values, list) and all(abs(value) <= LARGEST for value in values)
    except TypeError:
        return False


def is_endless(rings: Iterable[Sequence[float]], *, width: int, height: int) -> bool:
    """Whether the outlines of an object are longer than any around pixels of its image."""
    longest = max(LONGEST_PER_PIXEL * width * height, LONGEST_IN_SMALL_IMAGE)
    length = 0.0
    for ring in rings:
        points = list(zip(ring[::2], ring[1::2], strict=False))
        edges = zip(points, points[1:] + points[:1], strict=True)
        # The larger of both directions for each edge.
        length += sum(max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in edges)
    return length > min(longest, LONGEST_OUTLINE)


# What the fields of entries are, where it matters to readers.
_WHOLE = (is_whole, "a whole number")
_ID = (is_id, "a number or text")
_TEXT = (is_text, "a text")
_LIST = (lambda value: isinstance(value, list), "a list")
FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": _ID,
    "image_id": _ID,
    "category_id": _ID,
    "file_name": _TEXT,
    "segments_info": _LIST,
    "width": _WHOLE,
    "height": _WHOLE,
    "iscrowd": (lambda value: value is None or value in (0, 1), "0 or 1"),
    "area": (lambda value: _is_number(value) and abs(value) <= MAX_PIXELS, "a number"),
    "bbox": (lambda value: are_coordinates(value) and len(value) == 4, "4 numbers"),
}


def entries(
    content: Any, key: str, path: Path, fields: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Json]:
    """Yield the entries of a list in a file.

    Args:
        content: of the file, or of an entry.
        key: of the list.
        path: of the file, for messages.
        fields: that each entry must have; those in FIELDS are checked.
        optional: fields that are checked where they exist.

    Raises:
        LabelError: there is no such list, or an entry lacks a field or has a wrong one.
    """
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise LabelError(f"{path}: has no list of {key}")
    for number, entry in enumerate(content[key]):
        if not isinstance(entry, dict):
            raise LabelError(f"{path}: {key} entry {shown(entry)} is not an object")
        for field in fields:
            if field not in entry:
                raise LabelError(f"{path}: {key} entry {_name(entry, number)} has no {field}")
        for field in (*fields, *optional):
            check = FIELDS.get(field)
            if check is not None and field in entry and not check[0](entry[field]):
                what = f"{key.removesuffix('s')} {_name(entry, number)}"
                value = shown(entry[field])
                raise LabelError(f"{path}: {what} has {field} {value}, not {check[1]}")
        yield entry


def _name(entry: Json, number: int) -> str:
    return shown(entry["id"]) if is_id(entry.get("id")) else f"at index {number}"
