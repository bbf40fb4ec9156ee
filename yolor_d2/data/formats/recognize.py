"""Recognizing the format of labeled data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError
from . import box_csv, caption_lines, coco, labelme, semantic_png, voc, yolo
from .source import OwnData


class Format(NamedTuple):
    """A format of labeled data.

    Attributes:
        name: for people.
        looks_for: what a path must have.
        find: returns a true value if a path has it.
        read: reads a path that has it.
    """

    name: str
    looks_for: str
    find: Callable[[Path], Any]
    read: Callable[[Path], OwnData]


class DataSource(NamedTuple):
    """Data in a recognized format."""

    format: str
    path: Path
    read: Callable[[Path], OwnData]


FORMATS = (
    Format("COCO JSON", "one *.json in COCO's format", coco.find_json, coco.read_single),
    Format("COCO export", "train/_annotations.coco.json", coco.find_export, coco.read_export),
    Format(
        "COCO",
        "annotations/instances_train*.json or annotations*.zip, with the folder or zip of images",
        coco.find_official,
        coco.read_official,
    ),
    Format("YOLO", "data.yaml with names and train", yolo.find_yaml, yolo.read),
    Format("Pascal VOC", "*.xml of annotations", voc.find_labels, voc.read),
    Format("LabelMe", "*.json with shapes", labelme.find_labels, labelme.read),
    Format(
        "CSV",
        "*.csv with columns filename, class, xmin, ymin, xmax, ymax",
        box_csv.find_tables,
        box_csv.read,
    ),
    Format("captions", "metadata.jsonl", caption_lines.find_files, caption_lines.read),
    Format(
        "semantic PNGs",
        "images/, masks/*.png and classes.txt",
        semantic_png.find_classes,
        semantic_png.read,
    ),
)


def fitting_formats(path: Path) -> list[Format]:
    """Return the formats that a file or folder can be read as."""
    return [each for each in FORMATS if each.find(path)]


def recognize(path: Path) -> DataSource:
    """Return the format of a file or folder.

    Raises:
        DataError: none or several formats fit; the message lists what was looked for.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    found = fitting_formats(path)
    if len(found) > 1:
        names = " and as ".join(f"{each.name} ({each.looks_for})" for each in found)
        raise DataError(f"{path}: can be read as {names}; name the file, or remove one of them")
    if not found:
        looked = "; ".join(f"{each.name}: {each.looks_for}" for each in FORMATS)
        raise DataError(f"{path}: no known format; looked for {looked}")
    return DataSource(found[0].name, path, found[0].read)
