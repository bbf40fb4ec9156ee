"""One table of object classes for several registered data sets, matched by name.

A class can be unlabeled in some of the data sets: the metadata's "labeled_thing_classes" names
those that are labeled; see `records.labeled_classes`.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...errors import DataError
from .categories import Categories
from .records import Record, forget_records, labeled_classes, read_metadata
from .registered import require_registered

logger = logging.getLogger(__name__)


def set_configured_classes(cfg: CfgNode) -> None:
    """Apply DATASETS.THING_CLASSES and DATASETS.LABELED_CLASSES to the registered data sets."""
    classes = cfg.DATASETS.THING_CLASSES
    known = DatasetCatalog.list()
    for name in dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]):
        if classes and name in known:  # others are reported where they are used
            share_thing_classes(name, classes)
    for name, labeled in cfg.DATASETS.LABELED_CLASSES:
        set_labeled_classes(name, labeled)


def share_thing_classes(name: str, classes: Sequence[str]) -> None:
    """Renumber the object classes of a registered data set, by name.

    Classes that the data set does not have are unlabeled in it.

    Args:
        name: name in detectron2's catalogs; its metadata are replaced.
        classes: names in the new order, the same for all data sets of a run.

    Raises:
        DataError: there is no such data set, it has a class that is not in the table, or a name is
            not unique.
    """
    require_registered([name])
    metadata = read_metadata(name)
    own, classes = list(metadata.get("thing_classes") or ()), list(classes)
    if not own or own == classes:
        return
    for where, names in (("DATASETS.THING_CLASSES", classes), (name, own)):
        if repeated := [each for each in names if names.count(each) > 1]:
            raise DataError(f"{where} has the class {repeated[0]} twice")
    if missing := [each for each in own if each not in classes]:
        raise DataError(f"{name} has the class {missing[0]}, which DATASETS.THING_CLASSES lacks")
    index = [classes.index(each) for each in own]
    load = partial(_load_renumbered, DatasetCatalog[name], metadata, index)
    changed: dict[str, Any] = {"thing_classes": classes}
    if len(own) < len(classes):
        changed["labeled_thing_classes"] = metadata.get("labeled_thing_classes", own)
    if colors := metadata.get("thing_colors"):
        table = list(Categories.from_names(classes).colors)
        for number, color in zip(index, colors, strict=True):
            table[number] = color
        changed["thing_colors"] = table
    if ids := metadata.get("thing_dataset_id_to_contiguous_id"):
        changed["thing_dataset_id_to_contiguous_id"] = {i: index[k] for i, k in ids.items()}
    _replace(metadata, changed)
    DatasetCatalog[name] = load


def set_labeled_classes(name: str, labeled: Sequence[str]) -> None:
    """Set the classes that are labeled in a registered data set.

    Args:
        name: name in detectron2's catalogs; its metadata are replaced.
        labeled: names of classes.

    Raises:
        DataError: there is no such data set or class.
    """
    require_registered([name])
    metadata = read_metadata(name)
    labeled_classes(_replace(metadata, {"labeled_thing_classes": list(labeled)}))


def warn_about_unlabeled(names: Sequence[str]) -> None:
    """Log the classes that are labeled in none of the data sets: they are not trained."""
    tables = [read_metadata(name) for name in names]
    tables = [metadata for metadata in tables if metadata.get("thing_classes")]
    masks = [labeled_classes(metadata) for metadata in tables]
    present = [mask for mask in masks if mask is not None]
    if present and len(present) == len(masks):
        classes = zip(tables[0].thing_classes, *present, strict=True)
        if missing := [name for name, *labeled in classes if not any(labeled)]:
            logger.warning("labeled in no data set, not trained: %s", ", ".join(missing))


def _replace(metadata: Metadata, changed: dict[str, Any]) -> Metadata:
    """Register changed metadata: values of detectron2's own objects can only be set once."""
    made = MetadataCatalog[metadata.name] = Metadata(**(metadata.as_dict() | changed))
    forget_records(metadata.name)
    return made


def _load_renumbered(
    load: Callable[[], list[Record]], metadata: Metadata, index: Sequence[int]
) -> list[Record]:
    """Load records whose class k becomes index[k].

    Loading functions such as detectron2's can set the metadata that the data set had before.
    """
    current = MetadataCatalog[metadata.name]
    MetadataCatalog[metadata.name] = metadata
    try:
        records = load()
    finally:
        MetadataCatalog[metadata.name] = current
    return [_renumbered(record, index, metadata.name) for record in records]


def _renumbered(record: Record, index: Sequence[int], name: str) -> Record:
    if "annotations" not in record:
        if "segments_info" in record:
            raise DataError(f"{name}: DATASETS.THING_CLASSES cannot renumber panoptic objects")
        return record
    annotations = [{**a, "category_id": index[a["category_id"]]} for a in record["annotations"]]
    return {**record, "annotations": annotations}
