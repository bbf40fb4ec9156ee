"""Panoptic classes of a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.data import Metadata


@dataclass(frozen=True)
class PanopticClasses:
    """A table of panoptic classes.

    Attributes:
        names: of the classes.
        is_thing: whether a class is a thing; the others are stuff.
        indices: index of each category id in the ground truth.
        predicted: index of each predicted class, by (is a thing, "category_id" of a segment).
    """

    names: list[str]
    is_thing: list[bool]
    indices: Mapping[int, int]
    predicted: Mapping[tuple[bool, int], int]

    @classmethod
    def of(cls, metadata: Metadata, categories: Iterable[Mapping[str, Any]]) -> "PanopticClasses":
        """Return the classes of a data set.

        Args:
            metadata: with "panoptic_classes", whose indices are predicted. Otherwise, predicted
                classes are the contiguous ids of things and of stuff, as in detectron2.
            categories: of the panoptic JSON; used in the second case.
        """
        if metadata.get("panoptic_classes") is not None:
            names = list(metadata.panoptic_classes)
            flags = list(map(bool, metadata.panoptic_is_thing))
            indices = dict(metadata.panoptic_dataset_id_to_contiguous_id)
            predicted = {(flag, i): i for i in range(len(names)) for flag in (True, False)}
            return cls(names, flags, indices, predicted)
        tables = {
            True: metadata.thing_dataset_id_to_contiguous_id,
            False: metadata.stuff_dataset_id_to_contiguous_id,
        }
        known = [each for each in categories if each["id"] in tables[bool(each["isthing"])]]
        flags = [bool(each["isthing"]) for each in known]
        predicted = {
            (flag, tables[flag][each["id"]]): index
            for index, (each, flag) in enumerate(zip(known, flags, strict=True))
        }
        indices = {each["id"]: index for index, each in enumerate(known)}
        return cls([each["name"] for each in known], flags, indices, predicted)

    def index_of(self, segment: Mapping[str, Any]) -> int:
        """Return the class index of a predicted segment."""
        return self.predicted[bool(segment.get("isthing")), segment["category_id"]]
