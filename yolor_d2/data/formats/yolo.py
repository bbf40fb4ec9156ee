"""YOLO: a data.yaml, images, and a text file of boxes or polygons for each image."""

import logging
import math
import os
from pathlib import Path
from typing import Any

import yaml

from ...errors import BadFileError, LabelError
from ..catalog.coco_join import IMAGE_SUFFIXES
from ..catalog.entries import is_text, is_whole, shown
from ..files.contents import path_of_name
from ..files.images import image_size
from .image_files import list_files
from .lines import line_error, read_lines, read_text
from .source import TEST, TRAIN, VAL, Collected, LabeledObject, OwnData, polygon_box

TOLERANCE = 0.01  # of coordinates outside of the image, which are clipped
PARTS = {"train": TRAIN, "val": VAL, "valid": VAL, "test": TEST}

logger = logging.getLogger(__name__)


def find_yaml(path: Path) -> Path | None:
    """Return the path if it is a *.yaml of data, or the only such file of a folder."""
    files = [path] if path.is_file() else sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    found = [f for f in files if f.suffix in (".yaml", ".yml") and _has_names(f)]
    return found[0] if len(found) == 1 else None


def read(path: Path) -> OwnData:
    """Read the images that a data.yaml names, with their labels."""
    file = find_yaml(path)
    assert file is not None
    content = _content(file)
    names = _names(content, file)
    keypoints = _keypoint_numbers(content, file)
    root = _root(content, file)
    collected = Collected(root)
    images_of = {PARTS[key]: _images(content[key], key, file, root) for key in _keys(content)}
    everything = [image for images in images_of.values() for image in images]
    label_of = {image: _label_file(image) for image in everything}
    for part, image in [(part, image) for part, images in images_of.items() for image in images]:
        if not label_of[image].is_file():
            continue
        try:
            size = image_size(str(image))
        except BadFileError as error:
            collected.missing.append(str(error))
            continue
        objects = _read_labels(label_of[image], size, names, keypoints=keypoints)
        collected.add(part, image, objects=objects)
    used = set(label_of.values())
    for folder in sorted({label.parent for label in used}):
        files = (f for f in sorted(folder.glob("*.txt")) if f not in used)
        collected.missing.extend(str(f) for f in files if _is_label(f))
    return collected.finish(everything, names=names)


def _has_names(file: Path) -> bool:
    try:
        content = yaml.safe_load(file.read_bytes())
    except (OSError, RecursionError, ValueError, yaml.YAMLError):
        return file.name in ("data.yaml", "data.yml")  # read to report the error
    return isinstance(content, dict) and "names" in content


def _content(file: Path) -> dict[str, Any]:
    """Return the content of a *.yaml, in which names are texts, also yes, no and 010."""
    try:
        content = yaml.safe_load(read_text(file))
        texts = yaml.load(read_text(file), yaml.BaseLoader)
    except (RecursionError, ValueError, yaml.YAMLError) as error:  # ValueError: not a date
        if isinstance(error, LabelError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise LabelError(f"{file}{where}: is not valid YAML") from None
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        raise LabelError(f"{file}: has no names, the list of classes")
    if not _keys(content):
        raise LabelError(f"{file}: has no train, the folder of images")
    return content | {"names": texts["names"]}


def _keypoint_numbers(content: dict[str, Any], file: Path) -> int:
    """Return how many numbers of keypoints follow each box; 0: labels have no keypoints."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or not all(is_whole(number) for number in shape):
        raise LabelError(f"{file}: kpt_shape is {shown(shape)}, not a list of numbers")
    return int(math.prod(shape))


def _keys(content: dict[str, Any]) -> list[str]:
    return [key for key in PARTS if content.get(key)]


def _names(content: dict[str, Any], file: Path) -> list[str]:
    names = content["names"]
    if isinstance(names, dict):
        if set(names) != {str(index) for index in range(len(names))}:
            raise LabelError(f"{file}: the keys of names are not 0 to {len(names) - 1}")
        names = [names[str(index)] for index in range(len(names))]
    if not all(map(is_text, names)):
        raise LabelError(f"{file}: names has a class that is not a text")
    if len(set(names)) < len(names):
        raise LabelError(f"{file}: names has a class twice")
    if content.get("nc", len(names)) != len(names):
        raise LabelError(f"{file}: nc is {shown(content['nc'])}, but there are {len(names)} names")
    return names


def _root(content: dict[str, Any], file: Path) -> Path:
    """Return the folder that other paths are relative to."""
    path = content.get("path")
    given = Path(path if isinstance(path, str) and is_text(path) else ".")
    places = [given] if given.is_absolute() else [file.parent / given, given]
    # A path that was valid on another machine: the folder of the file.
    return next((place for place in places if place.is_dir()), file.parent)


def _images(entry: Any, key: str, file: Path, root: Path) -> list[Path]:
    images: list[Path] = []
    for name in entry if isinstance(entry, list) else [entry]:
        if not isinstance(name, str):
            raise LabelError(f"{file}: {key} is {shown(name)}, not the name of a folder")
        place = _place(name, file, root)
        if place is None and PARTS[key] != TRAIN:  # exports name parts that they do not have
            logger.warning("%s: %s names %s, which does not exist", file, key, name)
            continue
        if place is None:
            raise LabelError(f"{file}: {key} names {name}, which does not exist")
        images += _listed(place, root) if place.is_file() else list_files(place)
    return images


def _place(name: str, file: Path, root: Path) -> Path | None:
    """Return the path that an entry means; exports write ../train/images for train/images."""
    names = [name, name[3:]] if name.startswith(("../", "..\\")) else [name]
    places = (path_of_name(base, each) for each in names for base in (root, file.parent))
    return next((place for place in places if os.path.exists(place)), None)


def _listed(file: Path, root: Path) -> list[Path]:
    """Return the images that a text file lists."""
    images = []
    for number, name in read_lines(file):
        if not name.lower().endswith(IMAGE_SUFFIXES):
            raise line_error(file, number, f"{name} is not an image")
        base = file.parent if name.startswith(("./", ".\\")) else root
        image = path_of_name(base, name)
        if not os.path.isfile(image):
            raise line_error(file, number, f"{name} does not exist")
        images.append(image)
    return images


def _label_file(image: Path) -> Path:
    """Return the path with the last folder images replaced by labels."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _is_label(file: Path) -> bool:
    return file.name not in ("classes.txt", "train.txt", "val.txt", "test.txt")


def _read_labels(
    file: Path, size: tuple[int, int], names: list[str], *, keypoints: int
) -> list[LabeledObject]:
    width, height = size
    objects = []
    for number, line in read_lines(file):
        category, numbers = _numbers(line, file, number, keypoints=keypoints)
        if not 0 <= category < len(names):
            raise line_error(file, number, f"class {category} is not in the {len(names)} names")
        scaled = [value * size[k % 2] for k, value in enumerate(numbers)]
        if len(numbers) == 4:
            x, y, w, h = scaled
            left, top = max(x - w / 2, 0), max(y - h / 2, 0)
            box = (left, top, min(x + w / 2, width) - left, min(y + h / 2, height) - top)
            objects.append(LabeledObject(names[category], box))
        else:
            objects.append(LabeledObject(names[category], polygon_box([scaled]), [scaled]))
    return objects


def _numbers(line: str, file: Path, number: int, *, keypoints: int) -> tuple[int, list[float]]:
    """Return the class, and the numbers of a box or polygon without those of keypoints."""
    words = line.split()
    try:
        category, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise line_error(file, number, f"{line[:60]!r} has a word that is not a number") from None
    if not category.is_integer():
        raise line_error(file, number, f"class {words[0]} is not an integer")
    if keypoints:
        if len(values) != 4 + keypoints:
            what = f"has {len(values)} numbers after the class"
            raise line_error(file, number, f"{what}, not a box and {keypoints} of kpt_shape")
        values = values[:4]
    elif len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise line_error(
            file, number, f"has {len(values)} numbers after the class, not 4 or at least 3 points"
        )
    if not all(math.isfinite(v) and -TOLERANCE <= v <= 1 + TOLERANCE for v in values):
        raise line_error(file, number, "has a coordinate that is not between 0 and 1")
    return int(category), [min(max(value, 0.0), 1.0) for value in values]
