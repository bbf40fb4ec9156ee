"""Reading the records of data sets that are registered with detectron2, by any function.

The records of `register_coco_multitask` are complete. Those of other functions are completed: image
ids, sizes, and objects of panoptic maps.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...errors import BadFileError, DataError, LabelError
from ..files.images import image_size
from .categories import IGNORE_LABEL
from .registered import require_registered

Record = dict[str, Any]

COMPLETE = "coco_multitask"  # evaluator_type of data sets whose records and metadata are complete
# Types whose classes are in the metadata from the registration on.
NAMED = (COMPLETE, "sem_seg", "pascal_voc", "cityscapes_instance", "cityscapes_sem_seg")

_kept: ContextVar[dict[str, list[Record]] | None] = ContextVar("_kept", default=None)


@contextmanager
def reading_once(kept: dict[str, list[Record]] | None = None) -> Iterator[None]:
    """Read each data set at most once inside the context, which keeps the records in memory.

    Args:
        kept: records of earlier contexts by data set, to which those of this one are added.
    """
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({} if kept is None else kept)
    try:
        yield
    finally:
        _kept.reset(token)


def read_records(name: str) -> list[Record]:
    """Return the records of a registered data set, which the caller must not change.

    Raises:
        DataError: the data set cannot be loaded, or a record is invalid.
    """
    kept = _kept.get()
    if kept is not None and name in kept:
        return kept[name]
    records = _complete(name, load_records(name))
    labeled = labeled_classes(MetadataCatalog.get(name))
    if labeled is not None:
        records = [{**record, "labeled_classes": labeled} for record in records]
    if kept is not None:
        kept[name] = records
    return records


def forget_records(name: str) -> None:
    """Make `reading_once` read a data set again, which has been registered anew."""
    kept = _kept.get()
    if kept is not None:
        kept.pop(name, None)


def labeled_classes(metadata: Metadata) -> tuple[bool, ...] | None:
    """Return which of the "thing_classes" are labeled in a data set; None if all are.

    They are those of the metadata's "labeled_thing_classes", a list of names.
    """
    names = metadata.get("labeled_thing_classes")
    if names is None:
        return None
    classes = metadata.get("thing_classes") or ()
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise DataError(
            f"{metadata.name}: the labeled class {unknown[0]} is not one of its classes, "
            f"{', '.join(classes)}"
        )
    labeled = tuple(name in names for name in classes)
    return None if all(labeled) else labeled


def read_metadata(name: str) -> Metadata:
    """Return the metadata of a data set, with its classes.

    Some of detectron2's functions, such as `register_coco_instances`, set the classes when the
    records are read, so they are read here if the classes are missing.
    """
    metadata = MetadataCatalog.get(name)
    is_filled = metadata.get("thing_classes") or metadata.get("evaluator_type") in NAMED
    if not is_filled and name in DatasetCatalog.list():
        read_records(name)
    return metadata


def load_records(name: str) -> list[Record]:
    """Return the records of a registered data set as its function returns them.

    Raises:
        DataError: there is no such data set, or its function fails.
    """
    require_registered([name])
    try:
        return list(DatasetCatalog.get(name))
    except (DataError, OSError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        # An error of a worker process has lost its `name`, but not its message.
        package = error.name or str(error).removeprefix("No module named ").strip("'")
        raise DataError(f"{name}: needs the package {package}") from error
    except Exception as error:  # registered functions can raise anything
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be loaded ({type(error).__name__}: {reason})") from error


def _complete(name: str, records: list[Record]) -> list[Record]:
    metadata = MetadataCatalog.get(name)
    if metadata.get("evaluator_type") == COMPLETE:
        return records
    number = len(metadata.get("thing_classes") or ()) or None
    records = _with_sizes(records)
    return [
        record
        | _missing_id(record, index)
        | _checked_annotations(name, record, number)
        | _panoptic_targets(record, metadata)
        for index, record in enumerate(records)
    ]


def _missing_id(record: Record, index: int) -> Record:
    """Return the index as the image id if there is none, as detectron2's COCO conversion does."""
    return {} if "image_id" in record else {"image_id": index}


def _with_sizes(records: list[Record]) -> list[Record]:
    """Read missing sizes from the images; loaders report those that cannot be read."""
    unknown = [i for i, r in enumerate(records) if "height" not in r or "width" not in r]
    records = list(records)
    with ThreadPoolExecutor(16) as pool:
        sizes = pool.map(_size, [records[index]["file_name"] for index in unknown])
    for index, (width, height) in zip(unknown, sizes, strict=True):
        records[index] = {**records[index], "width": width, "height": height}
    return records


def _size(path: str) -> tuple[int, int]:
    try:
        return image_size(path)
    except BadFileError:
        return 1, 1  # never used: the image cannot be read


def _checked_annotations(name: str, record: Record, number: int | None) -> Record:
    """Return the annotations without empty segmentations.

    Args:
        name: of the data set, for messages.
        record: data set dict.
        number: of classes; None if it is unknown.
    """
    if "annotations" not in record:
        return {}
    for annotation in record["annotations"]:
        where = f"{name}: {record['file_name']}: an object"
        missing = {"bbox", "bbox_mode", "category_id"} - annotation.keys()
        if missing:
            raise LabelError(f"{where} has no {min(missing)}")
        if len(annotation["bbox"]) != 4:
            raise LabelError(f"{where} has a box of {len(annotation['bbox'])} numbers, not 4")
        if not 0 <= annotation["category_id"] < (number or annotation["category_id"] + 1):
            raise LabelError(
                f"{where} has category_id {annotation['category_id']}, there are {number} classes"
            )
    return {"annotations": [_without_empty_mask(each) for each in record["annotations"]]}


def _without_empty_mask(annotation: Record) -> Record:
    if "segmentation" in annotation and not _has_content(annotation["segmentation"]):
        return {key: value for key, value in annotation.items() if key != "segmentation"}
    return annotation


def _has_content(segmentation: Any) -> bool:
    return segmentation is not None and len(segmentation) > 0


def _panoptic_targets(record: Record, metadata: Metadata) -> Record:
    """Mark a record whose objects are those of its panoptic map, and complete its segments.

    Each segment gets "isthing" and "sem_seg_label", the label of its pixels in a semantic map.
    """
    if "annotations" in record or not {"pan_seg_file_name", "segments_info"} <= record.keys():
        return {}
    things = set((metadata.get("thing_dataset_id_to_contiguous_id") or {}).values())
    leaves = list(metadata.get("stuff_classes") or ())
    one_table = leaves == list(metadata.get("thing_classes") or ())
    label_of_things = leaves.index("things") if "things" in leaves else IGNORE_LABEL
    segments = []
    for segment in record["segments_info"]:
        is_thing = segment.get("isthing", segment["category_id"] in things)
        is_own_class = one_table or not is_thing
        label = segment["category_id"] if is_own_class else label_of_things
        segments.append({**segment, "isthing": is_thing, "sem_seg_label": label})
    return {"segments_info": segments, "from_panoptic": True}


def known_tasks(records: Sequence[Record]) -> set[str]:
    """Return the tasks except captions for which some of the records have ground truth."""
    tasks = set()
    for record in records:
        if record.get("from_panoptic"):
            tasks |= {"detection", "mask", "semantic"}
        if "sem_seg_file_name" in record:
            tasks.add("semantic")
        if record.get("annotations"):
            tasks.add("detection")
            if any("segmentation" in annotation for annotation in record["annotations"]):
                tasks.add("mask")
    return tasks
