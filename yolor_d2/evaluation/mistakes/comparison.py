"""Correct and wrong predictions of single images, from result files."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..caption.cider import CiderD
from ..caption.metrics import tokenize_captions
from .box_confusion import Json, Match, box_ious, match_boxes

NEAR_IOU = 0.1  # a false positive with at least this overlap is near an object


class BoxComparison(NamedTuple):
    """The results of an image compared with its objects."""

    correct: list[Match]
    false: list[Match]  # results without an object, or with one of another class
    missed: list[Match]  # objects without a result, or with one of another class

    @property
    def quality(self) -> float | None:
        """Panoptic quality computed on boxes, 0 to 1; None if there are no objects or results.

        The mean IoU of the correct results times the F1 score.
        """
        errors = len(self.false) + len(self.missed)
        if not self.correct and not errors:
            return None
        return sum(match.iou for match in self.correct) / (len(self.correct) + errors / 2)


def compare_boxes(
    annotations: Sequence[Json],
    results: Sequence[Json],
    *,
    min_score: float = 0.25,
    min_iou: float = 0.5,
) -> BoxComparison:
    """Compare an image's results with its objects by boxes and classes.

    Args:
        annotations: objects in COCO's format; only "bbox", "category_id" and "iscrowd" are read.
        results: detections in COCO's result format.
        min_score: results with a lower score are dropped.
        min_iou: a match needs a larger intersection over union.
    """
    objects = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    kept = [result for result in results if result["score"] >= min_score]
    correct = [
        match
        for category in {annotation["category_id"] for annotation in objects}
        for match in match_boxes(
            *([i for i in items if i["category_id"] == category] for items in (objects, kept)),
            min_iou=min_iou,
        )
        if match.annotation and match.result
    ]
    matched = {id(item) for match in correct for item in match[:2]}
    # The others match across classes or not at all; results on crowds are dropped.
    others = match_boxes(
        [annotation for annotation in annotations if id(annotation) not in matched],
        [result for result in kept if id(result) not in matched],
        min_iou=min_iou,
    )
    return BoxComparison(
        correct=correct,
        false=[match for match in others if match.result],
        missed=[match for match in others if match.annotation],
    )


def explain_false(match: Match, annotations: Sequence[Json], class_names: Sequence[str]) -> str:
    """Return the reason for a false positive in a few words.

    Args:
        match: entry of `BoxComparison.false`.
        annotations: all objects of its image.
        class_names: class names by "category_id".
    """
    assert match.result is not None
    if match.annotation is not None:
        return f"true class: {class_names[match.annotation['category_id']]}"
    objects = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    ious = box_ious([match.result], objects, crowd=False)[0]  # (objects,)
    if len(ious) == 0 or ious.max() < NEAR_IOU:
        return "no object here"
    nearest = objects[int(ious.argmax())]
    name = class_names[nearest["category_id"]]
    if ious.max() > 0.5:
        return f"duplicate of a found {name}"
    return f"near {name}, IoU {ious.max():.2f}"


def caption_scores(
    references: Mapping[int, Sequence[str]], captions: Mapping[int, str]
) -> dict[int, float]:
    """Return CIDEr-D, 0 to 10, of each image that has a caption and references."""
    known = {i: caption for i, caption in captions.items() if references.get(i)}
    if not known:
        return {}
    truth, words = tokenize_captions(references, known)
    scores = CiderD(truth).score(list(words), list(words.values()))
    return dict(zip(words, scores.tolist(), strict=True))
