"""Semantic PNGs: class indices in masks/ or labels/ beside images/, and a list of the classes."""

from pathlib import Path

from ...errors import BadFileError, DataError, LabelError
from ..catalog.categories import IGNORE_LABEL, MAX_CLASSES, Categories
from ..files.semantic_files import read_index_png
from .image_files import list_files
from .lines import read_lines
from .source import PART_NAMES, Collected, OwnData

CLASS_FILES = ("classes.txt", "labels.txt", "names.txt", "class_names.txt")
MAP_FOLDERS = ("masks", "labels")
CHECKED = 50  # maps that are read for their values; yolor-d2 check-data reads all


def find_classes(path: Path) -> Path | None:
    """Return the list of classes of a folder that has maps."""
    if not path.is_dir() or not _folders(path):
        return None
    return next((path / name for name in CLASS_FILES if (path / name).is_file()), None)


def read(path: Path) -> OwnData:
    """Read the images that have a map of the same name."""
    file = find_classes(path)
    assert file is not None
    names = [name for _, name in read_lines(file)]
    if not names or len(set(names)) < len(names) or len(names) > MAX_CLASSES:
        raise LabelError(f"{file}: does not list 1 to {MAX_CLASSES} different classes")
    collected = Collected(path)
    everything: list[Path] = []
    for part, images, maps in _folders(path):
        by_stem = {image.relative_to(images).with_suffix(""): image for image in list_files(images)}
        everything += by_stem.values()
        for number, labels in enumerate(list_files(maps, (".png",))):
            if number < CHECKED:
                _check(labels, len(names))
            image = by_stem.get(labels.relative_to(maps).with_suffix(""))
            if image is None:
                collected.missing.append(str(labels))
            else:
                collected.add(part, image, sem_seg_file_name=str(labels))
    return collected.finish(everything, sem_seg=Categories.from_names(names))


def _folders(path: Path) -> list[tuple[str, Path, Path]]:
    """Return part, folder of images and folder of maps: one without parts, or one per part."""
    for name in MAP_FOLDERS:
        folders = [(part, path / p / "images", path / p / name) for p, part in PART_NAMES.items()]
        folders += [(part, path / "images" / p, path / name / p) for p, part in PART_NAMES.items()]
        found = [f for f in folders if _has_maps(f[1], f[2])]
        if found:
            return found
        if _has_maps(path / "images", path / name):
            return [("", path / "images", path / name)]
    return []


def _has_maps(images: Path, maps: Path) -> bool:
    return images.is_dir() and maps.is_dir() and any(list_files(maps, (".png",)))


def _check(path: Path, classes: int) -> None:
    try:
        labels = read_index_png(path)
    except BadFileError as error:
        raise DataError(str(error)) from None
    wrong = labels[(labels >= classes) & (labels != IGNORE_LABEL)]
    if wrong.size:
        raise LabelError(f"{path}: has label {wrong.max()}, of {classes} classes")
