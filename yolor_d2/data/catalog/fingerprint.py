"""Fingerprints of data sets, to compare the data of two runs without reading every image."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from .coco_join import IMAGE_SUFFIXES
from .registered import require_registered

ANNOTATION_FILES = ("json_file", "captions_json", "panoptic_json")
FOLDERS = ("image_root", "sem_seg_root", "panoptic_root")


def dataset_fingerprint(name: str) -> dict[str, Any]:
    """Return the fingerprint of a registered data set, independent of where its files are.

    Returns:
        For each annotation file its SHA-256; for each folder of images or maps the number of files,
        their total bytes, and the SHA-256 of their names and sizes. Missing files are left out.
    """
    require_registered([name])
    metadata = MetadataCatalog.get(name)
    fingerprint: dict[str, Any] = {}
    for key in ANNOTATION_FILES:
        path = Path(metadata.get(key) or "")
        if path.is_file():
            with path.open("rb") as file:
                fingerprint[key] = hashlib.file_digest(file, "sha256").hexdigest()
    for key in FOLDERS:
        if metadata.get(key) and Path(metadata.get(key)).is_dir():
            fingerprint[key] = _folder_fingerprint(metadata.get(key))
    return fingerprint


def _folder_fingerprint(folder: str) -> dict[str, Any]:
    sizes = dict(_image_sizes(folder, prefix="", seen=set()))
    digest = hashlib.sha256()
    for name, size in sizes.items():
        digest.update(os.fsencode(f"{name}\0{size}\n"))
    return {"files": len(sizes), "bytes": sum(sizes.values()), "sha256": digest.hexdigest()}


def _image_sizes(folder: str, *, prefix: str, seen: set[str]) -> Iterator[tuple[str, int]]:
    """Yield the relative paths of the images below a folder, and their sizes in bytes.

    Links are followed, but each folder is entered once, as links may be circular.
    """
    path = os.path.realpath(folder)
    if path in seen:
        return
    seen.add(path)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _image_sizes(entry.path, prefix=f"{name}/", seen=seen)
            elif name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
                yield name, entry.stat().st_size
