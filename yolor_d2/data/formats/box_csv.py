"""CSV: a line for each box, with the names of the columns in the first line."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError, LabelError
from .image_files import existing_file, list_files, part_of
from .lines import line_error, read_text
from .source import PART_NAMES, TRAIN, Collected, LabeledObject, OwnData, corner_box

IMAGE = ("filename", "file_name", "image", "image_name", "image_path", "path", "file")
CLASS = ("class", "label", "class_name", "category", "name")
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
# Where there are both, width and height are those of the image.
SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))


def find_tables(path: Path) -> list[Path]:
    """Return the path if it is a CSV file of boxes, or all such files of a folder."""
    files = [path] if path.is_file() else list_files(path, (".csv",))
    return [f for f in files if f.suffix.lower() == ".csv" and _columns(_header(f)) is not None]


def read(path: Path) -> OwnData:
    """Read the boxes of all tables; empty coordinates stand for an image without objects."""
    root = path if path.is_dir() else path.parent
    found: dict[tuple[str, Path], list[LabeledObject]] = {}
    missing: dict[str, None] = {}
    for file, part in _parts(find_tables(path), root).items():
        rows = _read_rows(file)
        things = [thing for _, thing in rows if thing is not None]
        if things and all(max(thing.box) <= 1 for thing in things):
            raise LabelError(f"{file}: has boxes in fractions of the image, not in pixels")
        for name, thing in rows:
            image = existing_file(name, (file.parent, file.parent / "images"))
            if image is None:
                missing.setdefault(name)
            else:
                objects = found.setdefault((part, image), [])
                objects += [] if thing is None else [thing]
    collected = Collected(root, missing=list(missing))
    for (part, image), objects in found.items():
        collected.add(part, image, objects=objects)
    return collected.finish(list_files(root))


def _parts(files: list[Path], root: Path) -> dict[Path, str]:
    """Return the part of each table: by its folder, or by its name, such as train_labels.csv."""
    by_folder = {file: part_of(file, root) for file in files}
    by_name = {file: part or _named_part(file) for file, part in by_folder.items()}
    return by_name if TRAIN in by_name.values() else by_folder


def _named_part(file: Path) -> str:
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((PART_NAMES[word] for word in words if word in PART_NAMES), "")


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        try:
            names = next(csv.reader([lines.readline()]), [])
        except csv.Error:
            return []
    return [name.strip().lower() for name in names]


def _columns(header: list[str]) -> tuple[str, str, tuple[str, ...]] | None:
    """Return the columns of image, class and box; None if one is missing."""
    image = next((name for name in IMAGE if name in header), None)
    category = next((name for name in CLASS if name in header), None)
    box = next((names for names in (*CORNERS, *SIZES) if set(names) <= set(header)), None)
    return None if image is None or category is None or box is None else (image, category, box)


def _read_rows(file: Path) -> list[tuple[str, LabeledObject | None]]:
    header = _header(file)
    columns = _columns(header)
    assert columns is not None
    rows = csv.reader(io.StringIO(read_text(file), newline=""))
    found = []
    for values in _rows(rows, file):
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(header):
            raise line_error(file, rows.line_num, f"has {len(values)} fields, not {len(header)}")
        row = dict(zip(header, (value.strip() for value in values), strict=True))
        try:
            found.append(_read_row(row, *columns))
        except DataError as error:
            raise line_error(file, rows.line_num, str(error)) from None
    return found


def _rows(rows: Any, file: Path) -> Iterator[list[str]]:
    """Yield the rows after the header."""
    try:
        next(rows, None)
        yield from rows
    except csv.Error as error:
        raise line_error(file, rows.line_num, f"is not CSV ({error})") from None


def _read_row(
    row: Mapping[str, str], image: str, category: str, box: tuple[str, ...]
) -> tuple[str, LabeledObject | None]:
    if not row[image]:
        raise LabelError(f"has no {image}")
    texts = [row[name] for name in box]
    if not any(texts):
        return row[image], None
    if not row[category]:
        raise LabelError(f"has no {category}")
    try:
        a, b, c, d = map(float, texts)
    except ValueError:
        raise LabelError(f"{', '.join(box)} are {', '.join(texts)}, not numbers") from None
    corners = (a, b, c, d) if box in CORNERS else (a, b, a + c, b + d)
    if not all(map(math.isfinite, corners)) or corners[0] >= corners[2] or corners[1] >= corners[3]:
        raise LabelError(f"has an empty box: {', '.join(texts)}")
    return row[image], LabeledObject(row[category], corner_box(*corners))
