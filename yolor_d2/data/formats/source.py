"""The content of labeled data, independent of its format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.structures import BoxMode

from ...errors import BadFileError, DataError, LabelError
from ..catalog.categories import Categories
from ..catalog.entries import LARGEST, are_coordinates, is_endless
from ..files.images import image_size

Record = dict[str, Any]

TRAIN, VAL, TEST = "train", "val", "test"
# Names of folders and keys, and the part that they contain.
PART_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """The records of labeled data.

    Attributes:
        root: the folder of the data.
        parts: records of "train", "val" and "test"; "val" and "test" can be missing.
        things: classes of objects; None without objects.
        sem_seg: classes of semantic maps; None without maps.
        panoptic: classes of panoptic maps; None without maps.
        unlabeled: number of images without labels, which are left out.
        missing: label files, or names in them, without a readable image, which are left out.
    """

    root: Path
    parts: dict[str, list[Record]]
    things: Categories | None = None
    sem_seg: Categories | None = None
    panoptic: Categories | None = None
    unlabeled: int = 0
    missing: tuple[str, ...] = ()

    def records(self) -> list[Record]:
        """Return the records of all parts."""
        return [record for records in self.parts.values() for record in records]


class LabeledObject(NamedTuple):
    """A labeled object, in pixels.

    Attributes:
        name: of its class.
        box: (x, y, width, height).
        polygons: lists of x, y, x, y, ...; None without an outline.
    """

    name: str
    box: tuple[float, float, float, float]
    polygons: list[list[float]] | None = None


@dataclass(frozen=True)
class Collected:
    """Images and labels, collected file by file.

    Args:
        root: the folder of the data.
    """

    root: Path
    items: dict[tuple[str, str], Record] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, part: str, image: Path, **labels: Any) -> None:
        """Add an image of a part ("" if the data has no parts) with its labels.

        Args:
            part: of PART_NAMES' values, or "".
            image: path of the file.
            labels: `objects`, a list of LabeledObject; `captions`; `sem_seg_file_name`.
        """
        if (part, str(image)) in self.items:
            raise LabelError(f"{image}: is labeled twice")
        self.items[part, str(image)] = labels

    def finish(
        self,
        images: Iterable[Path],
        *,
        names: Sequence[str] | None = None,
        sem_seg: Categories | None = None,
    ) -> OwnData:
        """Return the data, with contiguous ids.

        Args:
            images: all images, to count those without labels.
            names: classes of objects in order; None sorts the names that occur.
            sem_seg: classes of semantic maps.
        """
        objects = [o for labels in self.items.values() for o in labels.get("objects", ())]
        has_objects = any("objects" in labels for labels in self.items.values())
        if names is None:
            names = sorted({o.name for o in objects})
        index = {name: number for number, name in enumerate(names)}
        parts: dict[str, list[Record]] = {}
        count = 0
        for number, ((part, image), labels) in enumerate(sorted(self.items.items()), start=1):
            try:
                record = _new_record(image, number)
            except BadFileError as error:
                self.missing.append(str(error))
                continue
            for key, value in labels.items():
                if key != "objects":
                    record[key] = value
                    continue
                for place, thing in enumerate(value, start=1):
                    if fault := _fault(thing, record):
                        raise DataError(f"{image}: object {place} of its labels has {fault}")
                record["annotations"] = [
                    _annotation(o, index[o.name], count + k) for k, o in enumerate(value, start=1)
                ]
                count += len(value)
            parts.setdefault(part or TRAIN, []).append(record)
        if not parts:
            example = f"; there is no image for {self.missing[0]}" if self.missing else ""
            raise DataError(f"{self.root}: no image has labels{example}")
        labeled = {image for _, image in self.items}
        return OwnData(
            root=self.root,
            parts=parts,
            things=table_of_things(names) if has_objects else None,
            sem_seg=sem_seg,
            unlabeled=sum(str(image) not in labeled for image in images),
            missing=tuple(self.missing),
        )


def table_of_things(names: Sequence[str]) -> Categories:
    """Return classes of objects whose ids count from 1, as in COCO."""
    return Categories.from_coco({"id": i, "name": name} for i, name in enumerate(names, start=1))


def _new_record(image: str, image_id: int) -> Record:
    """Return the record of an image without labels; its size is read from the file.

    Raises:
        BadFileError: it cannot be read.
    """
    width, height = image_size(image)
    return {"file_name": image, "image_id": image_id, "height": height, "width": width}


def _annotation(thing: LabeledObject, category: int, number: int) -> Record:
    annotation = {
        "id": number,
        "bbox": list(thing.box),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "iscrowd": 0,
    }
    if thing.polygons is not None:
        annotation["segmentation"] = thing.polygons
    return annotation


def _fault(thing: LabeledObject, record: Record) -> str | None:
    """What readers of an object could not bear; None if it is valid."""
    rings = thing.polygons or []
    if not all(map(are_coordinates, [list(thing.box), *rings])):
        return f"a coordinate beyond {LARGEST:,.0f} pixels"
    size = {side: record[side] for side in ("width", "height")}
    return "an endless outline" if is_endless(rings, **size) else None


def polygon_box(polygons: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """Return the box (x, y, width, height) around polygons."""
    points = list(polygons)
    xs = [x for polygon in points for x in polygon[::2]]
    ys = [y for polygon in points for y in polygon[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def corner_box(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    """Return the box (x, y, width, height) between two corners."""
    return min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)
