"""What can be wrong with the records of a data set: with their files and with what is said of them.

Nothing that is found wrong is raised: it becomes a `Problem`, and the next thing is looked at.
"""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from detectron2.data import Metadata

from ..catalog.categories import IGNORE_LABEL
from ..errors import BadFileError
from ..files.images import read_image
from ..views.reading import RecordReader
from .objects import Finding, object_findings

Record = dict[str, Any]


class Problem(NamedTuple):
    """One thing that is wrong."""

    task: str  # a key of TASKS
    kind: str
    file: str
    id: str  # of the image
    detail: str


class ClassTables(NamedTuple):
    """The class names that a data set's metadata gives for each task; None where it has none."""

    objects: list[str] | None
    semantic: list[str] | None
    panoptic: list[str] | None

    @classmethod
    def from_metadata(cls, metadata: Metadata) -> "ClassTables":
        """The tables of a registered data set, complete once it has been loaded."""
        keys = ("thing_classes", "stuff_classes", "panoptic_classes")
        return cls(*(metadata.get(key) for key in keys))


class Report(NamedTuple):
    """What was found in some records. Counters by task, and by task and class index."""

    problems: list[Problem]
    images: Counter[str]  # those that have a task's target
    class_counts: Counter[tuple[str, int]]  # objects without crowds, panoptic segments, maps
    class_images: Counter[tuple[str, int]]

    @classmethod
    def empty(cls) -> "Report":
        """A report of no records."""
        return cls([], Counter(), Counter(), Counter())

    def add(self, other: "Report") -> None:
        """Take in the numbers, not the problems, of other records."""
        self.images.update(other.images)
        self.class_counts.update(other.class_counts)
        self.class_images.update(other.class_images)


# Yields what is wrong, and counts the record's classes.
_Check = Callable[[Record, ClassTables, Counter[int]], Iterable[Finding]]


def check_records(records: Sequence[Record], *, tables: ClassTables) -> Report:
    """Examine detectron2's data set dicts and all files that they name."""
    report = Report.empty()
    for record in records:
        for task, (key, _) in TASKS.items():
            target = record.get(key)
            # An empty list of objects says that there are none, an empty list of captions nothing.
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
    """Image ids and files that are there twice."""
    ids = set()
    id_of_file: dict[str, Any] = {}
    for record in records:
        file, image_id = record["file_name"], record.get("image_id")
        if image_id is not None and image_id in ids:
            yield Problem("image", "duplicate image id", file, str(image_id), "is there twice")
        elif file in id_of_file:
            detail = f"is image {id_of_file[file]} too"
            yield Problem("image", "duplicate file name", file, str(image_id), detail)
        ids.add(image_id)
        id_of_file.setdefault(file, image_id)


def caption_fault(caption: Any) -> Finding | None:
    """What is wrong with a caption."""
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
    except Exception as error:  # nothing in a record may stop the check of the others
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
    """Redirect what C libraries print, too: of damage inside a file, libjpeg says no more."""
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
        return f"class {index!r} is no number"
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
    """Pixels of each panoptic id, from RGB (height, width, 3)."""
    red, green, blue = np.moveaxis(colors, -1, 0)
    ids = (red + green * np.int32(256) + blue * np.int32(65536)).reshape(-1)
    # Sorting runs of equal ids is ten times faster than sorting pixels.
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    found, run_to_id = np.unique(ids[starts], return_inverse=True)
    areas = np.bincount(run_to_id, weights=np.diff(starts, append=len(ids)))
    return dict(zip(found.tolist(), areas.astype(int).tolist(), strict=True))


# The key by which a record has a task's target, and its check.
TASKS: dict[str, tuple[str, _Check]] = {
    "image": ("file_name", _check_image),
    "objects": ("annotations", _check_objects),
    "captions": ("captions", _check_captions),
    "semantic": ("sem_seg_file_name", _check_semantic),
    "panoptic": ("pan_seg_file_name", _check_panoptic),
}
