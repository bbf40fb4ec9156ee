"""Checks of the records of a data set: their files and their annotations.

Errors are collected as `Problem`s instead of raised, so that one does not hide the others.
"""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import IO, Any, NamedTuple

import numpy as np
from detectron2.data import Metadata

from ...errors import BadFileError
from ..catalog.categories import IGNORE_LABEL
from ..catalog.records import labeled_classes
from ..files.images import read_image
from ..views.reading import RecordReader
from .objects import Finding, object_findings

Record = dict[str, Any]


class Problem(NamedTuple):
    """A problem of a record."""

    task: str  # a key of TASKS
    kind: str
    file: str
    id: str  # of the image
    detail: str


class ClassTables(NamedTuple):
    """Class names of each task in a data set's metadata; None if it has none."""

    objects: list[str] | None
    semantic: list[str] | None
    panoptic: list[str] | None
    labeled: list[str] | None = None  # of objects; None if all are labeled

    @classmethod
    def from_metadata(cls, metadata: Metadata) -> "ClassTables":
        """Return the tables of a registered data set, which are complete once it is loaded."""
        keys = ("thing_classes", "stuff_classes", "panoptic_classes")
        tables = cls(*(metadata.get(key) for key in keys))
        labeled = labeled_classes(metadata)
        if labeled is None:
            return tables
        return tables._replace(labeled=list(compress(metadata.thing_classes, labeled)))


class Report(NamedTuple):
    """Result of checking records; counters are by task, or by task and class index."""

    problems: list[Problem]
    images: Counter[str]  # images that have the task's target
    class_counts: Counter[tuple[str, int]]  # objects except crowds, panoptic segments, or maps
    class_images: Counter[tuple[str, int]]

    @classmethod
    def empty(cls) -> "Report":
        """Return a report of no records."""
        return cls([], Counter(), Counter(), Counter())

    def add(self, other: "Report") -> None:
        """Add the counters, not the problems, of other records."""
        self.images.update(other.images)
        self.class_counts.update(other.class_counts)
        self.class_images.update(other.class_images)


# Yields findings, and counts the record's classes in the last argument.
_Check = Callable[[Record, ClassTables, Counter[int]], Iterable[Finding]]


def check_records(records: Sequence[Record], *, tables: ClassTables) -> Report:
    """Check data set dicts and all files that they name."""
    report = Report.empty()
    for record in records:
        for task, (key, _) in TASKS.items():
            target = record.get(key)
            # An empty list of objects is a target; an empty list of captions is a missing one.
            if target is None or (target == [] and task != "objects"):
                continue
            report.images[task] += 1
            classes: Counter[int] = Counter()
            report.problems.extend(_check_task(task, record, tables, classes))
            for index, count in classes.items():
                report.class_counts[task, index] += count
                report.class_images[task, index] += 1
    return report


def repeated_images(records: Iterable[Record]) -> Iterator[Problem]:
    """Yield image ids and files that occur twice."""
    ids = set()
    id_of_file: dict[str, Any] = {}
    for record in records:
        file, image_id = record["file_name"], record.get("image_id")
        if image_id is not None and image_id in ids:
            yield Problem("image", "duplicate image id", file, str(image_id), "occurs twice")
        elif file in id_of_file:
            detail = f"is also image {id_of_file[file]}"
            yield Problem("image", "duplicate file name", file, str(image_id), detail)
        ids.add(image_id)
        id_of_file.setdefault(file, image_id)


def caption_fault(caption: Any) -> Finding | None:
    """Check a caption; None if it is valid."""
    if not isinstance(caption, str):
        return "caption is no text", repr(caption)
    return None if caption.strip() else ("blank caption", repr(caption))


def _check_task(
    task: str, record: Record, tables: ClassTables, classes: Counter[int]
) -> list[Problem]:
    key, check = TASKS[task]
    file = record[key] if isinstance(record[key], str) else record.get("file_name")
    findings: list[Finding] = []
    try:
        findings.extend(check(record, tables, classes))
    except BadFileError as error:
        findings.append((f"bad {task} file", error.reason))
    except Exception as error:  # a record must not stop the check of the others
        findings.append((f"bad {task} entry", f"{type(error).__name__}: {error}"))
    image_id = str(record.get("image_id"))
    return [Problem(task, kind, str(file), image_id, detail) for kind, detail in findings]


def _check_image(record: Record, tables: ClassTables, classes: Counter[int]) -> Iterator[Finding]:
    with tempfile.TemporaryFile() as messages:
        with _standard_error_to(messages):
            read_image(record["file_name"], width=record["width"], height=record["height"])
        messages.seek(0)
        for line in messages:
            if line.startswith(b"Corrupt JPEG data"):
                yield "damaged image", line.decode(errors="replace").strip()


@contextlib.contextmanager
def _standard_error_to(file: IO[bytes]) -> Iterator[None]:
    """Redirect the output of C libraries: libjpeg only prints a warning about damaged data."""
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_objects(record: Record, tables: ClassTables, classes: Counter[int]) -> Iterator[Finding]:
    size = {"width": record["width"], "height": record["height"]}
    for number, annotation in enumerate(record["annotations"]):
        what = f"annotation {annotation['id']}" if "id" in annotation else f"object {number}"
        index = annotation["category_id"]
        if fault := _class_fault(index, tables.objects):
            yield "unknown category", f"{what}: {fault}"
        else:
            if tables.objects is not None:
                what += f" ({tables.objects[index]})"
            if not annotation.get("iscrowd", 0):
                classes[index] += 1
        for kind, detail in object_findings(annotation, **size):
            yield kind, f"{what}: {detail}"


def _class_fault(index: Any, names: list[str] | None) -> str | None:
    if not isinstance(index, int | np.integer):
        return f"class {index!r} is not a number"
    if index < 0 or (names is not None and index >= len(names)):
        return f"class {index}" + ("" if names is None else f" of {len(names)}")
    return None


def _check_captions(
    record: Record, tables: ClassTables, classes: Counter[int]
) -> Iterator[Finding]:
    for number, caption in enumerate(record["captions"]):
        if fault := caption_fault(caption):
            yield fault[0], f"caption {number}: {fault[1]}"


def _check_semantic(
    record: Record, tables: ClassTables, classes: Counter[int]
) -> Iterable[Finding]:
    num_classes = None if tables.semantic is None else len(tables.semantic)
    labels = RecordReader(num_sem_seg_classes=num_classes).labels(record)
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    classes.update(index for index in present.tolist() if index != IGNORE_LABEL)
    return ()


def _check_panoptic(
    record: Record, tables: ClassTables, classes: Counter[int]
) -> Iterator[Finding]:
    size = {"width": record["width"], "height": record["height"]}
    areas = _segment_areas(read_image(record["pan_seg_file_name"], **size))
    listed = set()
    for segment in record["segments_info"]:
        segment_id, index = segment["id"], segment["category_id"]
        if fault := _class_fault(index, tables.panoptic):
            yield "unknown segment category", f"segment {segment_id}: {fault}"
        else:
            classes[index] += 1
        if segment_id in listed:
            yield "duplicate segment id", f"segment {segment_id} is listed twice"
        elif segment_id not in areas:
            yield "segment not in the PNG", f"segment {segment_id} has no pixel"
        elif segment.get("area", areas[segment_id]) != areas[segment_id]:
            detail = f"{segment['area']} in the list, {areas[segment_id]} pixels in the PNG"
            yield "segment of another area", f"segment {segment_id}: {detail}"
        listed.add(segment_id)
    for segment_id in areas.keys() - listed - {0}:  # 0: unlabeled
        yield "unlisted segment", f"segment {segment_id} has {areas[segment_id]} pixels in the PNG"


def _segment_areas(colors: np.ndarray) -> dict[int, int]:
    """Count the pixels of each panoptic id in an RGB image (height, width, 3)."""
    red, green, blue = np.moveaxis(colors, -1, 0)
    ids = (red + green * np.int32(256) + blue * np.int32(65536)).reshape(-1)
    # Sorting runs of equal ids is ten times as fast as sorting pixels.
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    found, run_to_id = np.unique(ids[starts], return_inverse=True)
    areas = np.bincount(run_to_id, weights=np.diff(starts, append=len(ids)))
    return dict(zip(found.tolist(), areas.astype(int).tolist(), strict=True))


# Record key of each task's target, and its check.
TASKS: dict[str, tuple[str, _Check]] = {
    "image": ("file_name", _check_image),
    "objects": ("annotations", _check_objects),
    "captions": ("captions", _check_captions),
    "semantic": ("sem_seg_file_name", _check_semantic),
    "panoptic": ("pan_seg_file_name", _check_panoptic),
}
