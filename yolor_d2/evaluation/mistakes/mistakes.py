"""Which images, objects and captions a model is right and wrong about, from its result files."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..caption.cider import CiderD
from ..caption.metrics import tokenize_captions
from .box_confusion import Json, Match, box_overlaps, match_boxes

TOUCHING = 0.1  # intersection over union from which on a result means an object


class Verdict(NamedTuple):
    """How the results of an image agree with its objects."""

    right: list[Match]
    false: list[Match]  # results without an object, or with one of another class
    missed: list[Match]  # objects without a result, or with one of another class

    @property
    def quality(self) -> float | None:
        """0 to 1, as panoptic quality is made, but of boxes; None where nothing was to be found.

        That is the mean overlap of what is right, times the F1 score.
        """
        mistakes = len(self.false) + len(self.missed)
        if not self.right and not mistakes:
            return None
        return sum(match.overlap for match in self.right) / (len(self.right) + mistakes / 2)


def judge_boxes(
    annotations: Sequence[Json],
    results: Sequence[Json],
    *,
    min_score: float = 0.25,
    min_overlap: float = 0.5,
) -> Verdict:
    """Compare an image's results with its objects, by their boxes and classes.

    Args:
        annotations: in COCO's format, as far as "bbox", "category_id" and "iscrowd" go.
        results: in COCO's result format.
        min_score: results below are left out.
        min_overlap: of a box with an object's, intersection over union.
    """
    objects = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    kept = [result for result in results if result["score"] >= min_score]
    right = [
        match
        for category in {annotation["category_id"] for annotation in objects}
        for match in match_boxes(
            *([i for i in items if i["category_id"] == category] for items in (objects, kept)),
            min_overlap=min_overlap,
        )
        if match.annotation and match.result
    ]
    paired = {id(item) for match in right for item in match[:2]}
    # What is left has another class, or none; crowds take what lies on them.
    others = match_boxes(
        [annotation for annotation in annotations if id(annotation) not in paired],
        [result for result in kept if id(result) not in paired],
        min_overlap=min_overlap,
    )
    return Verdict(
        right=right,
        false=[match for match in others if match.result],
        missed=[match for match in others if match.annotation],
    )


def explain_false(match: Match, annotations: Sequence[Json], class_names: Sequence[str]) -> str:
    """Why a result is false, in a few words.

    Args:
        match: of `Verdict.false`.
        annotations: of its image.
        class_names: by "category_id".
    """
    assert match.result is not None
    if match.annotation is not None:
        return f"it is {class_names[match.annotation['category_id']]}"
    objects = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    overlaps = box_overlaps([match.result], objects, crowd=False)[0]  # (objects,)
    if len(overlaps) == 0 or overlaps.max() < TOUCHING:
        return "nothing is there"
    nearest = objects[int(overlaps.argmax())]
    name = class_names[nearest["category_id"]]
    if overlaps.max() > 0.5:
        return f"{name} has been found already"
    return f"{name} is near by, with an overlap of {overlaps.max():.2f}"


def caption_scores(
    references: Mapping[int, Sequence[str]], captions: Mapping[int, str]
) -> dict[int, float]:
    """CIDEr-D of each image that has both a caption and references, 0 to 10."""
    known = {i: caption for i, caption in captions.items() if references.get(i)}
    if not known:
        return {}
    truth, words = tokenize_captions(references, known)
    scores = CiderD(truth).score(list(words), list(words.values()))
    return dict(zip(words, scores.tolist(), strict=True))
