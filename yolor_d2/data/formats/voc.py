"""Pascal VOC: an XML file of boxes for each image."""

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from ...errors import BadFileError, DataError, LabelError
from ..files.contents import read_bytes
from .image_files import ImageFinder, list_files, part_of
from .lines import read_lines
from .source import PART_NAMES, Collected, LabeledObject, OwnData, corner_box

CORNERS = ("xmin", "ymin", "xmax", "ymax")
ROOT = re.compile(rb"<annotation[\s>]")


def find_labels(path: Path) -> list[Path]:
    """Return the XML files below a folder, if they are annotations."""
    files = list_files(path, (".xml",)) if path.is_dir() else []
    return files if files and ROOT.search(files[0].read_bytes()[:500]) else []


def read(path: Path) -> OwnData:
    """Read all XML files below a folder, with the parts of ImageSets/Main or of folders."""
    files = find_labels(path)
    finder = ImageFinder(path, files)
    listed = _image_sets(path)
    collected = Collected(path)
    for file in files:
        root = _parse(file)
        objects = _read_objects(root, file)
        image = finder.find(file, root.findtext("filename"))
        if image is None:
            collected.missing.append(str(file))
        elif not listed:
            collected.add(part_of(file, path) or part_of(image, path), image, objects=objects)
        elif part := _listed_part(file.relative_to(path), listed):
            collected.add(part, image, objects=objects)
    return collected.finish(finder.images)


def _image_sets(path: Path) -> dict[str, str]:
    """Return the part of each image by name, from ImageSets/Main/train.txt and val.txt."""
    parts: dict[str, str] = {}
    for name in PART_NAMES:
        file = path / "ImageSets" / "Main" / f"{name}.txt"
        if file.is_file():
            parts |= {line.split()[0]: PART_NAMES[name] for _, line in read_lines(file)}
    return parts


def _listed_part(file: Path, listed: Mapping[str, str]) -> str | None:
    """Return the part of a label file; names of images in subfolders can contain the subfolder."""
    parts = file.with_suffix("").parts
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((listed[name] for name in names if name in listed), None)


def _parse(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(read_bytes(str(file)))
    except BadFileError as error:
        raise DataError(str(error)) from None
    except ElementTree.ParseError as error:
        line, _ = error.position
        raise LabelError(f"{file}, line {line}: is not valid XML ({error})") from None
    except (LookupError, ValueError) as error:
        raise LabelError(f"{file}: has an encoding that is not supported ({error})") from None


def _read_objects(root: ElementTree.Element, file: Path) -> list[LabeledObject]:
    return [
        _read_object(element, f"{file}: object {number}")
        for number, element in enumerate(root.iter("object"), start=1)
    ]


def _read_object(element: ElementTree.Element, what: str) -> LabeledObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise LabelError(f"{what} has no name")
    texts = [element.findtext(f"bndbox/{corner}") or "" for corner in CORNERS]
    try:
        x1, y1, x2, y2 = map(float, texts)
    except ValueError:
        raise LabelError(f"{what} has no bndbox of numbers {', '.join(CORNERS)}") from None
    if not (x1 < x2 and y1 < y2):
        raise LabelError(f"{what} has an empty box: {' '.join(texts)}")
    return LabeledObject(name, corner_box(x1, y1, x2, y2))
