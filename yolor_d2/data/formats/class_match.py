"""Labeled data with the classes of a network, which are matched by name."""

from collections.abc import Mapping
from dataclasses import replace

from detectron2.data import Metadata

from ...errors import DataError
from ..catalog.categories import Categories
from .source import OwnData, Record


def with_classes_of(data: OwnData, network: Metadata) -> OwnData:
    """Return data whose class indices are those of a network.

    Args:
        data: labeled data; it can lack some of the network's classes.
        network: metadata with the class names of the network.

    Raises:
        DataError: an object's class or the table of semantic maps is not the network's.
    """
    if data.things is not None and network.get("thing_classes"):
        things = _table(network)
        index = {name: number for number, name in enumerate(things.names)}
        used = {a["category_id"] for r in data.records() for a in r.get("annotations", ())}
        names = {number: data.things.names[number] for number in used}
        if unknown := sorted(set(names.values()) - index.keys()):
            raise DataError(
                f"{data.root}: has objects of the class {unknown[0]}; the network's classes are "
                f"{', '.join(things.names)}"
            )
        moved = {number: index[name] for number, name in names.items()}
        parts = {
            part: [_moved(record, moved) for record in records]
            for part, records in data.parts.items()
        }
        data = replace(data, parts=parts, things=things)
    maps, known = data.sem_seg, network.get("stuff_classes")
    if maps is not None and known and list(maps.names) != list(known):
        raise DataError(
            f"{data.root}: the classes of its semantic maps are {', '.join(maps.names)}; those of "
            f"the network are {', '.join(known)}"
        )
    panoptic, segmented = data.panoptic, list(network.get("panoptic_classes") or ())
    if panoptic is not None and list(panoptic.names) != segmented:
        data = replace(data, panoptic=None)  # not evaluated
    return data


def _table(network: Metadata) -> Categories:
    """Return the classes of objects, with their ids in the data that the network was trained on."""
    to_index = network.get("thing_dataset_id_to_contiguous_id") or {}
    ids = {index: number for number, index in to_index.items()}
    return Categories.from_coco(
        {"id": ids.get(index, index + 1), "name": name}
        for index, name in enumerate(network.thing_classes)
    )


def _moved(record: Record, moved: Mapping[int, int]) -> Record:
    if "annotations" not in record:
        return record
    annotations = [{**a, "category_id": moved[a["category_id"]]} for a in record["annotations"]]
    return {**record, "annotations": annotations}
