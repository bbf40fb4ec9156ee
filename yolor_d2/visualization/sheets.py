"""Several pictures on one sheet."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .painting import on_paper
from .results import draw_results, picture_scale
from .text import MIN_STRIP_WIDTH, caption_strip

GAP = 8


class Kind(NamedTuple):
    """One of the things that can be said of an image, drawn in a picture of its own."""

    source: str  # key of the result
    classes: str  # key of the metadata: without these names nobody could read it
    layers: tuple[str, ...]


KINDS = {
    "boxes, masks": Kind("instances", "thing_classes", ("masks", "boxes", "labels")),
    "semantic map": Kind("sem_seg", "stuff_classes", ("semantic", "labels")),
    "panoptic map": Kind("panoptic_seg", "stuff_classes", ("panoptic", "labels")),
}
CAPTIONS = "captions"


def draw_each(
    image: np.ndarray,
    result: Mapping[str, Any],
    metadata: Any,
    *,
    score_threshold: float = 0.25,
) -> dict[str, np.ndarray]:
    """A picture of each of KINDS that a result has, and its caption as text on paper.

    Kinds of which the metadata do not have the classes are left out; for the rest see
    `draw_results`.
    """
    pictures = {
        name: draw_results(
            image, result, metadata, layers=kind.layers, score_threshold=score_threshold
        )
        for name, kind in KINDS.items()
        if kind.source in result and getattr(metadata, kind.classes, None)
    }
    if "caption" in result:
        width = max(image.shape[1] * picture_scale(image), MIN_STRIP_WIDTH)
        pictures[CAPTIONS] = caption_strip(result["caption"], width)
    return pictures


def side_by_side(pictures: Sequence[np.ndarray], *, titles: Sequence[str]) -> np.ndarray:
    """Pictures next to each other, each below its title; narrow ones get a margin for it."""
    widths = [max(picture.shape[1], MIN_STRIP_WIDTH) for picture in pictures]
    strips = [caption_strip(title, width) for title, width in zip(titles, widths, strict=True)]
    rows = []
    for parts in (strips, pictures):
        height = max(part.shape[0] for part in parts)
        padded = [
            on_paper(part, height=height, width=width + GAP)
            for part, width in zip(parts, widths, strict=True)
        ]
        rows.append(np.concatenate(padded, axis=1))
    return np.concatenate(rows)[:, :-GAP]


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrower ones padded."""
    width = max(picture.shape[1] for picture in pictures)
    rows = [on_paper(picture, height=picture.shape[0] + GAP, width=width) for picture in pictures]
    return np.concatenate(rows)
