"""Several pictures on one sheet."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .colors import PAPER
from .results import draw_results, picture_scale
from .text import caption_strip

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
        width = image.shape[1] * picture_scale(image)
        pictures[CAPTIONS] = caption_strip(result["caption"], width)
    return pictures


def side_by_side(pictures: Sequence[np.ndarray], *, titles: Sequence[str]) -> np.ndarray:
    """Pictures next to each other, each below its title."""
    titled = [
        np.concatenate([caption_strip(title, picture.shape[1]), picture])
        for picture, title in zip(pictures, titles, strict=True)
    ]
    height = max(column.shape[0] for column in titled)
    columns = []
    for column in titled:
        padded = np.full((height, column.shape[1] + GAP, 3), PAPER, dtype=np.uint8)
        padded[: column.shape[0], : column.shape[1]] = column
        columns.append(padded)
    return np.concatenate(columns, axis=1)[:, :-GAP]


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrower ones padded."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        row = np.full((picture.shape[0] + GAP, width, 3), PAPER, dtype=np.uint8)
        row[: picture.shape[0], : picture.shape[1]] = picture
        rows.append(row)
    return np.concatenate(rows)
