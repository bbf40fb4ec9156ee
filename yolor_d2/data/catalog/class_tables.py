"""What a checkpoint says of classes, and metadata made of it where the data set is not there."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from detectron2.data import Metadata, MetadataCatalog

from .categories import Categories

KINDS = ("thing", "stuff", "panoptic")

Table = dict[str, list[Any]]


def describe_classes(known: Iterable[Metadata]) -> dict[str, Table]:
    """The classes of data sets, as far as they are known, in plain data for checkpoints.

    Returns:
        "classes", the names, and "class_ids", the numbers that the data sets' files give them,
        each by "thing_classes", "stuff_classes" and "panoptic_classes": those of the first data
        set that has some.
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
    """Those of the first of some data sets that is registered with just these classes."""
    known = set(MetadataCatalog.list())
    for metadata in (MetadataCatalog.get(name) for name in names if name in known):
        if all(list(metadata.get(key) or ()) == list(wanted) for key, wanted in classes.items()):
            return metadata
    return None


def make_metadata(
    classes: Mapping[str, Sequence[str]], ids: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """What can be told of classes from their names, and their numbers, if known; else indices."""
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
    """Metadata that detectron2's catalogue knows for a while, by a name of their own."""
    metadata = MetadataCatalog.get(f"classes-{uuid.uuid4()}").set(**values)
    try:
        yield metadata
    finally:
        MetadataCatalog.remove(metadata.name)
