"""Checks of the JSON files of a data set, for problems that loaders drop or stop at.

Loaders drop short polygons and blank captions, and stop at the first duplicate id.
"""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..files.contents import read_json
from .objects import Finding, ring_fault
from .records import Problem, caption_fault

Entry = dict[str, Any]

# Metadata key of each task's file.
JSON_KEYS = {"objects": "json_file", "captions": "captions_json", "panoptic": "panoptic_json"}


def json_problems(task: str, path: Path) -> list[Problem]:
    """Check a file in COCO's format; unreadable files and other formats are left to the loader.

    Args:
        task: a key of JSON_KEYS.
        path: the file.
    """
    try:
        content = read_json(path)
    except DataError:
        return []
    images, annotations = _entries(content, "images"), _entries(content, "annotations")
    problems = []
    for image_id in _repeated(images, "id"):
        kind, detail = "duplicate image id", "occurs twice"
        problems.append(Problem(task, kind, str(path), str(image_id), detail))
    # Panoptic annotations have no ids; each image has exactly one.
    key = "image_id" if task == "panoptic" else "id"
    repeated = set(_repeated(annotations, key))
    for annotation in annotations:
        image_id = str(annotation.get("image_id"))
        what = f"annotation {annotation['id']}: " if "id" in annotation else ""
        findings = list(_findings(task, annotation))
        value = annotation.get(key)
        if isinstance(value, Hashable) and value in repeated:
            findings.append(("duplicate annotation", f"its {key} {value} is used again"))
        problems += [Problem(task, k, str(path), image_id, what + d) for k, d in findings]
    return problems


def _entries(content: Any, key: str) -> list[Entry]:
    entries = content.get(key) if isinstance(content, dict) else None
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def _repeated(entries: list[Entry], key: str) -> Iterator[Hashable]:
    """Yield the repeated values of a key, once per repetition."""
    seen = set()
    for entry in entries:
        value = entry.get(key)
        if value is None or not isinstance(value, Hashable):
            continue
        if value in seen:
            yield value
        seen.add(value)


def _findings(task: str, annotation: Entry) -> Iterator[Finding]:
    if task == "captions":
        fault = caption_fault(annotation.get("caption"))
        if fault is not None:
            yield fault
        return
    segmentation = annotation.get("segmentation")
    if task == "objects" and isinstance(segmentation, list):
        for ring in segmentation:
            if fault := ring_fault(ring):
                yield fault
