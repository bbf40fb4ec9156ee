"""Several pictures in one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .painting import pad_picture
from .results import draw_results
from .text import MIN_STRIP_WIDTH, caption_strip

GAP = 8


class Panel(NamedTuple):
    """A picture of one output of a result."""

    source: str  # key of the result
    classes: str  # key of the metadata; without class names the panel is left out
    layers: tuple[str, ...]


PANELS = {
    "boxes, masks": Panel("instances", "thing_classes", ("masks", "boxes", "labels")),
    "semantic map": Panel("sem_seg", "stuff_classes", ("semantic", "labels")),
    "panoptic map": Panel("panoptic_seg", "stuff_classes", ("panoptic", "labels")),
}
IMAGE_PANEL = "image"


def draw_panels(
    image: np.ndarray,
    result: Mapping[str, Any],
    metadata: Any,
    *,
    score_threshold: float = 0.25,
) -> dict[str, np.ndarray]:
    """Draw the image with its caption below, then each output of a result in its own picture.

    Panels without class names in the metadata are left out. The arguments are those of
    `draw_results`.

    Returns:
        Pictures by title: IMAGE_PANEL, then keys of PANELS.
    """
    plain = draw_results(image, result, metadata, layers=("caption",))
    return {IMAGE_PANEL: plain} | {
        title: draw_results(
            image, result, metadata, layers=panel.layers, score_threshold=score_threshold
        )
        for title, panel in PANELS.items()
        if panel.source in result and getattr(metadata, panel.classes, None)
    }


def side_by_side(pictures: Sequence[np.ndarray], *, titles: Sequence[str]) -> np.ndarray:
    """Place pictures in a row, each below its title; narrow ones are padded to fit the title."""
    widths = [max(picture.shape[1], MIN_STRIP_WIDTH) for picture in pictures]
    strips = [caption_strip(title, width) for title, width in zip(titles, widths, strict=True)]
    rows = []
    for parts in (strips, pictures):
        height = max(part.shape[0] for part in parts)
        padded = [
            pad_picture(part, height=height, width=width + GAP)
            for part, width in zip(parts, widths, strict=True)
        ]
        rows.append(np.concatenate(padded, axis=1))
    return np.concatenate(rows)[:, :-GAP]


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Place pictures below each other; narrower ones are padded."""
    width = max(picture.shape[1] for picture in pictures)
    rows = [
        pad_picture(picture, height=picture.shape[0] + GAP, width=width) for picture in pictures
    ]
    return np.concatenate(rows)
