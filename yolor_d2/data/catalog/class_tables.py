"""Class tables in checkpoints, and metadata made from them for unregistered data sets."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from detectron2.data import Metadata, MetadataCatalog

from .categories import Categories

KINDS = ("thing", "stuff", "panoptic")

Table = dict[str, list[Any]]


def describe_classes(known: Iterable[Metadata]) -> dict[str, Table]:
    """Return the known classes of data sets as plain data for checkpoints.

    Returns:
        "classes", the names, and "class_ids", the category ids in the data sets' files. Each is a
        dictionary with the keys "thing_classes", "stuff_classes" and "panoptic_classes", taken
        from the first data set that has them.
    """
    classes: Table = {}
    ids: Table = {}
    for metadata in known:
        for kind in KINDS:
            key = f"{kind}_classes"
            if key in classes or not metadata.get(key):
                continue
            classes[key] = list(metadata.get(key))
            table = metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
            if sorted(table.values()) == list(range(len(classes[key]))):
                ids[key] = sorted(table, key=table.__getitem__)
    return {"classes": classes, "class_ids": ids}


def find_metadata(classes: Mapping[str, Sequence[str]], names: Iterable[str]) -> Metadata | None:
    """Return the metadata of the first data set that is registered with exactly these classes."""
    known = set(MetadataCatalog.list())
    for metadata in (MetadataCatalog.get(name) for name in names if name in known):
        if all(list(metadata.get(key) or ()) == list(wanted) for key, wanted in classes.items()):
            return metadata
    return None


def make_metadata(
    classes: Mapping[str, Sequence[str]], ids: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Make metadata from class names and category ids; ids default to indices."""
    made: dict[str, Any] = {}
    for kind in KINDS:
        names = classes.get(f"{kind}_classes")
        if not names:
            continue
        numbers = ids.get(f"{kind}_classes") or range(len(names))
        table = Categories.from_coco(
            {"id": number, "name": name} for number, name in zip(numbers, names, strict=True)
        )
        made[f"{kind}_classes"] = list(table.names)
        made[f"{kind}_colors"] = list(table.colors)
        made[f"{kind}_dataset_id_to_contiguous_id"] = dict(table.id_to_index)
    if "panoptic_classes" in made:
        things = set(made.get("thing_classes", ()))
        made["panoptic_is_thing"] = [name in things for name in made["panoptic_classes"]]
    return made


@contextmanager
def registered(values: Mapping[str, Any]) -> Iterator[Metadata]:
    """Register metadata in detectron2's catalog under a unique name, inside the context."""
    metadata = MetadataCatalog.get(f"classes-{uuid.uuid4()}").set(**values)
    try:
        yield metadata
    finally:
        MetadataCatalog.remove(metadata.name)
