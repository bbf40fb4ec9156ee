"""What was found in labeled data, in five lines, and the tasks that it can train."""

from collections import Counter

from ...tasks import TASKS
from .registration import RegisteredData
from .source import TEST, TRAIN, VAL, OwnData, Record

MOST_CLASSES = 8  # that are listed by name


def labeled_tasks(records: list[Record]) -> list[str]:
    """Return the tasks for which images have labels."""
    objects = [a for record in records for a in record.get("annotations", ())]
    has_labels = {
        "detection": bool(objects),
        "mask": any("segmentation" in annotation for annotation in objects),
        "semantic": any("sem_seg_file_name" in record for record in records),
        "caption": any(record.get("captions") for record in records),
    }
    return [task for task in TASKS if has_labels[task]]


def summary(found: RegisteredData) -> list[str]:
    """Return five lines: format, images, classes, labels, tasks."""
    data = found.data
    tasks = labeled_tasks(data.parts[TRAIN])
    others = [task for task in TASKS if task not in tasks]
    none = f"; no labels for {', '.join(others)}" if others else ""
    return [
        f"data:    {found.source.format}, {found.path}",
        f"images:  {_images(found)}",
        f"classes: {_classes(data)}",
        f"labels:  {_labels(data)}",
        f"tasks:   {', '.join(tasks) or 'none'}{none}",
    ]


def _images(found: RegisteredData) -> str:
    data = found.data
    origin = " (split off by file name)" if found.is_split else ""
    parts = [
        f"{len(data.parts[TRAIN])} for training",
        f"{len(data.parts[VAL])} for validation{origin}",
    ]
    if TEST in data.parts:
        parts.append(f"{len(data.parts[TEST])} for testing")
    left_out = []
    if data.unlabeled:
        left_out.append(f"images without labels: {data.unlabeled}")
    if data.missing:
        left_out.append(f"labels without an image: {len(data.missing)} ({data.missing[0]})")
    return "; ".join([", ".join(parts), *left_out])


def _classes(data: OwnData) -> str:
    if data.things is None:
        names = data.sem_seg.names if data.sem_seg is not None else ()
        return _listed([*names]) if names else "none"
    objects = (a for record in data.records() for a in record.get("annotations", ()))
    counts = Counter(annotation["category_id"] for annotation in objects)
    return _listed([f"{name} {counts[k]}" for k, name in enumerate(data.things.names)])


def _listed(names: list[str]) -> str:
    more = ", ..." if len(names) > MOST_CLASSES else ""
    return f"{len(names)} ({', '.join(names[:MOST_CLASSES])}{more})"


def _labels(data: OwnData) -> str:
    records = data.records()
    objects = [a for record in records for a in record.get("annotations", ())]
    outlines = sum("segmentation" in annotation for annotation in objects)
    captions = sum(len(record.get("captions", ())) for record in records)
    maps = sum("sem_seg_file_name" in record for record in records)
    panoptic = sum("pan_seg_file_name" in record for record in records)
    counts = [
        (f"{len(objects)} objects, {outlines} with outlines", len(objects)),
        (f"{maps} semantic maps", maps),
        (f"{panoptic} panoptic maps", panoptic),
        (f"{captions} captions", captions),
    ]
    return ", ".join(text for text, count in counts if count) or "none"
