"""Predictions as labels: entries of COCO's files and maps, and which of them are unsure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from detectron2.data import Metadata
from pycocotools import mask as coco_mask
from torch import Tensor

from ..data.catalog.categories import IGNORE_LABEL, MAX_CLASSES, Categories
from ..errors import OptionError
from ..modeling.panoptic import panoptic_tables
from ..structures import SemanticMap, instances_to_coco_json
from .prediction import Json, Prediction
from .predictor import Predictor


class Thresholds(NamedTuple):
    """What becomes a label.

    Attributes:
        score: score threshold of objects that are labels.
        unsure: score threshold of objects that are marked as crowds; those below are left out.
        pixel: lowest probability of labels in semantic maps; other pixels are unknown.
    """

    score: float = 0.5
    unsure: float = 0.25
    pixel: float = 0.5

    def check(self) -> None:
        """Raise a ValueError that names the flag of an invalid value."""
        if not 0 <= self.unsure <= self.score <= 1:
            raise OptionError(
                f"--unsure-threshold {self.unsure} must be between 0 and --score-threshold "
                f"{self.score}, and that at most 1"
            )
        if not 0 <= self.pixel <= 1:
            raise OptionError(f"--pixel-threshold must be between 0 and 1, not {self.pixel}")


@dataclass(frozen=True)
class LabelClasses:
    """The classes of a network as tables of COCO's files; None for tasks without labels.

    Attributes:
        things: classes of objects.
        sem_seg: classes of semantic maps.
        panoptic: classes of panoptic maps.
        panoptic_rows: row of a segment's class in `panoptic`, by "isthing" and "category_id".
        captions: whether there are captions.
    """

    things: Categories | None = None
    sem_seg: Categories | None = None
    panoptic: Categories | None = None
    panoptic_rows: Mapping[tuple[bool, int], int] | None = None
    captions: bool = False

    @classmethod
    def of(cls, predictor: Predictor) -> "LabelClasses":
        """Return the classes of what a predictor predicts."""
        metadata, tasks = predictor.metadata, predictor.tasks
        sem_seg = _table(metadata, "stuff") if "semantic" in tasks else None
        if sem_seg is not None and len(sem_seg) > MAX_CLASSES:
            raise OptionError(
                f"{len(sem_seg)} semantic classes do not fit into PNGs, which have at most "
                f"{MAX_CLASSES}: leave out semantic with --tasks"
            )
        has_panoptic = "panoptic" in predictor.layers
        panoptic, rows = _panoptic_table(metadata) if has_panoptic else (None, None)
        return cls(
            things=_table(metadata, "thing") if "detection" in tasks else None,
            sem_seg=sem_seg,
            panoptic=panoptic,
            panoptic_rows=rows,
            captions="caption" in tasks,
        )


class ImageLabels(NamedTuple):
    """The labels of an image; None for tasks without labels.

    Attributes:
        objects: entries of an instances file, without ids.
        labels: uint8 (height, width), class indices; 255: unknown.
        ids: (height, width), the segment of each pixel; 0: unknown.
        segments: entries of "segments_info" in a panoptic file.
        caption: a sentence.
    """

    objects: list[Json] | None = None
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    segments: list[Json] | None = None
    caption: str | None = None


def make_labels(
    prediction: Prediction, classes: LabelClasses, thresholds: Thresholds
) -> ImageLabels:
    """Return the labels of an image."""
    objects = labels = ids = segments = None
    if classes.things is not None:
        objects = label_objects(prediction, classes.things, thresholds)
    if classes.sem_seg is not None:
        assert prediction.sem_seg is not None
        labels = label_pixels(prediction.sem_seg, thresholds)
    if classes.panoptic is not None:
        ids, segments = label_segments(prediction, classes, labels, thresholds)
    return ImageLabels(objects, labels, ids, segments, prediction.caption)


def label_objects(prediction: Prediction, things: Categories, thresholds: Thresholds) -> list[Json]:
    """Return the objects; unsure ones are crowds.

    The box of an object with a mask is that of the mask, as in COCO's files. Objects with an empty
    mask are left out.
    """
    assert prediction.instances is not None
    objects = []
    for found in instances_to_coco_json(prediction.instances, ""):
        box, mask = found["bbox"], found.get("segmentation")
        area = box[2] * box[3]
        if mask is not None:
            area, box = int(coco_mask.area(mask)), coco_mask.toBbox(mask).tolist()
        if not area or found["score"] < thresholds.unsure:
            continue
        objects.append(
            {
                "category_id": things.ids[found["category_id"]],
                "bbox": box,
                "area": area,
                "iscrowd": int(found["score"] < thresholds.score),
                "score": found["score"],
                **({} if mask is None else {"segmentation": mask}),
            }
        )
    return objects


def label_pixels(sem_seg: SemanticMap | Tensor, thresholds: Thresholds) -> np.ndarray:
    """Return the class indices of a semantic map, 255 where the probability is too low."""
    labels = sem_seg.argmax(dim=0).numpy().astype(np.uint8)  # (height, width)
    if isinstance(sem_seg, SemanticMap):
        probabilities = sem_seg.probabilities
    else:  # logits
        probabilities = sem_seg.softmax(dim=0).amax(dim=0)  # (height, width)
    if probabilities is not None:
        labels[probabilities.numpy() < thresholds.pixel] = IGNORE_LABEL
    return labels


def label_segments(
    prediction: Prediction,
    classes: LabelClasses,
    labels: np.ndarray | None,
    thresholds: Thresholds,
) -> tuple[np.ndarray, list[Json]]:
    """Return the ids of a panoptic map and its segments.

    Unsure things are crowds. Pixels of stuff that are unknown in the semantic labels are unknown.
    """
    assert prediction.panoptic_seg is not None
    assert classes.panoptic is not None
    assert classes.panoptic_rows is not None
    predicted, segments = prediction.panoptic_seg
    given = predicted.numpy()  # (height, width)
    ids = np.zeros_like(given)
    kept = []
    for segment in segments:
        row = classes.panoptic_rows.get((bool(segment["isthing"]), segment["category_id"]))
        mask = given == segment["id"]
        if labels is not None and not segment["isthing"]:
            mask &= labels != IGNORE_LABEL
        if row is None or not mask.any():
            continue
        ids[mask] = segment["id"]
        is_unsure = segment["isthing"] and segment["score"] < thresholds.score
        kept.append(
            {
                "id": segment["id"],
                "category_id": classes.panoptic.ids[row],
                "area": int(np.count_nonzero(mask)),
                "bbox": list(cv2.boundingRect(mask.view(np.uint8))),
                "iscrowd": int(is_unsure),
            }
        )
    return ids, kept


def _table(metadata: Metadata, kind: str) -> Categories:
    """Return the classes of a kind with their ids in the data, or else their indices."""
    names = list(metadata.get(f"{kind}_classes") or ())
    to_index = metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
    ids = {index: number for number, index in to_index.items()}
    if sorted(ids) != list(range(len(names))):
        ids = dict(enumerate(range(len(names))))
    colors = metadata.get(f"{kind}_colors") or [None] * len(names)
    is_panoptic = kind == "panoptic"
    is_thing = metadata.panoptic_is_thing if is_panoptic else [kind == "thing"] * len(names)
    return Categories.from_coco(
        {"id": ids[index], "name": name, "color": color, "isthing": thing}
        for index, (name, color, thing) in enumerate(zip(names, colors, is_thing, strict=True))
    )


def _panoptic_table(metadata: Metadata) -> tuple[Categories, dict[tuple[bool, int], int]]:
    """Return the panoptic classes, and the row of each by "isthing" and "category_id".

    Data without panoptic classes have those of objects and then those of stuff, whose ids are moved
    where they are ids of objects too.
    """
    if metadata.get("panoptic_classes"):
        table = _table(metadata, "panoptic")
        return table, {(thing, row): row for row, thing in enumerate(table.is_thing)}
    rows = panoptic_tables(metadata)
    assert rows is not None
    things, stuff = (
        [
            (is_thing, row, {**entry, "isthing": is_thing})
            for entry, row in zip(_table(metadata, kind).to_coco(), numbers, strict=True)
            if row >= 0
        ]
        for is_thing, kind, numbers in ((True, "thing", rows[0]), (False, "stuff", rows[1]))
    )
    taken = {entry["id"] for _, _, entry in things}
    if any(entry["id"] in taken for _, _, entry in stuff):
        for _, _, entry in stuff:
            entry["id"] += max(taken) + 1
    both = [*things, *stuff]
    table = Categories.from_coco(entry for _, _, entry in both)
    return table, {(is_thing, row): index for index, (is_thing, row, _) in enumerate(both)}
