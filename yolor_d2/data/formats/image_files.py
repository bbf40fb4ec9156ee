"""The image files of labeled data: listing a folder, and finding the image of a label."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ...errors import BadFileError, DataError, LabelError
from ..catalog.coco_join import IMAGE_SUFFIXES
from ..files.contents import ARCHIVE_SUFFIX, archive_names, path_of_name
from .source import PART_NAMES


def list_files(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Return the files with these suffixes below a folder or in an archive, sorted.

    Hidden files and folders are left out. Links to folders outside of the folder are followed.
    """
    if folder.suffix.lower() == ARCHIVE_SUFFIX:
        try:
            names = archive_names(folder)
        except BadFileError as error:
            raise DataError(str(error)) from None
    else:
        names = [
            os.path.join(os.path.relpath(path, folder), name)
            for path, files in _walk(folder)
            for name in files
        ]
    paths = [Path(name) for name in names if name.lower().endswith(tuple(suffixes))]
    return sorted(folder / path for path in paths if not any(p[0] == "." for p in path.parts))


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield all folders with their files; each folder once, also with circular links."""
    inside = os.path.join(os.path.realpath(root), "")
    linked: set[str] = set()
    for path, folders, files in os.walk(root, followlinks=True):
        yield path, files
        followed = []
        for name in sorted(folders):
            place = os.path.join(path, name)
            if os.path.islink(place):
                target = os.path.join(os.path.realpath(place), "")
                if target.startswith(inside) or target in linked:
                    continue
                linked.add(target)
            followed.append(name)
        folders[:] = followed


def part_of(path: Path, root: Path) -> str:
    """Return the part that a folder in a path stands for, such as valid/; "" for none."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return next((PART_NAMES[name.lower()] for name in folders if name.lower() in PART_NAMES), "")


def existing_file(name: str, folders: Iterable[Path]) -> Path | None:
    """Return the file that a label names, in the first of the folders that has it."""
    places = (path_of_name(folder, name) for folder in folders)
    found = next((place for place in places if os.path.isfile(place)), None)
    return None if found is None else Path(os.path.normpath(found))


class ImageFinder:
    """Finds the images of label files.

    An image has the stem of its label file, or the name that is written in it. Folders that occur
    in paths of both images and labels must agree: annotations/front/1.xml is of images/front/1.jpg.

    Args:
        root: folder of images and labels.
        labels: all label files.
    """

    def __init__(self, root: Path, labels: Iterable[Path]) -> None:
        self.root = root
        self.images = list_files(root)
        self._by_stem: dict[str, list[Path]] = {}
        for image in self.images:
            self._by_stem.setdefault(image.stem, []).append(image)
        self._shared = self._all_names(self.images) & self._all_names(labels)

    def find(self, label: Path, name: object = None) -> Path | None:
        """Return the image of a label file; None if there is none.

        Args:
            label: path of the file.
            name: that the label file has for its image, which can be wrong.

        Raises:
            LabelError: several images fit.
        """
        named = PurePosixPath(str(name or "").replace("\\", "/"))
        found = self._fitting(label, label.stem)
        if len(found) > 1:
            found = [image for image in found if image.name == named.name] or found
        elif not found:
            found = [i for i in self._fitting(label, named.stem) if i.name == named.name]
        if len(found) > 1:
            raise LabelError(f"{label}: has the name of {found[0]} and of {found[1]}")
        return found[0] if found else None

    def _fitting(self, label: Path, stem: str) -> list[Path]:
        """The images of a stem: beside the label, or in equal folders, or not in others."""
        images = self._by_stem.get(stem, [])
        own = self._names(label) & self._shared
        folders = {image: self._names(image) & self._shared for image in images}
        return (
            [image for image in images if image.parent == label.parent]
            or [image for image in images if folders[image] == own]
            or [image for image in images if folders[image] <= own or folders[image] >= own]
        )

    def _all_names(self, paths: Iterable[Path]) -> set[str]:
        return {name for path in paths for name in self._names(path)}

    def _names(self, path: Path) -> set[str]:
        """The names of the folders of a path; those of a part are all the same."""
        folders = path.relative_to(self.root).parts[:-1]
        return {PART_NAMES.get(name.lower(), name) for name in folders}
