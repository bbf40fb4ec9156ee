"""Pascal VOC: an XML file of boxes for each image."""

from pathlib import Path
from xml.etree import ElementTree

from ...errors import LabelError
from .lines import read_lines, read_text
from .source import (
    PART_NAMES,
    Collected,
    ImageFinder,
    LabeledObject,
    OwnData,
    corner_box,
    list_files,
    part_of,
)

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find_labels(path: Path) -> list[Path]:
    """Return the XML files below a folder, if they are annotations."""
    files = list_files(path, (".xml",)) if path.is_dir() else []
    return files if files and "<annotation" in read_text(files[0])[:500] else []


def read(path: Path) -> OwnData:
    """Read all XML files below a folder, with the parts of ImageSets/Main or of folders."""
    finder = ImageFinder(path)
    listed = _image_sets(path)
    collected = Collected(path)
    for file in find_labels(path):
        objects = _read_objects(file)
        image = finder.find(file)
        if image is None:
            collected.missing.append(str(file))
        elif not listed or file.stem in listed:
            part = listed.get(file.stem) or part_of(file, path)
            collected.add(part, image, objects=objects)
    return collected.finish(finder.images)


def _image_sets(path: Path) -> dict[str, str]:
    """Return the part of each image by stem, from ImageSets/Main/train.txt and val.txt."""
    parts: dict[str, str] = {}
    for name in PART_NAMES:
        file = path / "ImageSets" / "Main" / f"{name}.txt"
        if file.is_file():
            parts |= {line.split()[0]: PART_NAMES[name] for _, line in read_lines(file)}
    return parts


def _read_objects(file: Path) -> list[LabeledObject]:
    try:
        root = ElementTree.fromstring(read_text(file))
    except ElementTree.ParseError as error:
        line, _ = error.position
        raise LabelError(f"{file}, line {line}: is not valid XML ({error})") from None
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
