"""Panoptic quality, as defined by COCO."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..missing import NOT_ANNOTATED, Missing


class Segments(NamedTuple):
    """The K segments of an image.

    Attributes:
        map: (H, W), segment numbers from 1 on, 0 where there is no segment.
        categories: (K,) categories of the segments.
        is_crowd: (K,) bool.
    """

    map: np.ndarray
    categories: np.ndarray
    is_crowd: np.ndarray

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        segment_ids: Sequence[int],
        categories: Sequence[int],
        is_crowd: Sequence[bool],
    ) -> "Segments":
        """Renumber a map of arbitrary ids; ids that are not in `segment_ids` become 0."""
        numbers = np.zeros(ids.shape, np.intp)  # (H, W)
        # A lookup table would have the size of the largest COCO id, which is slow.
        for number, segment_id in enumerate(segment_ids, start=1):
            numbers[ids == segment_id] = number
        return cls(numbers, np.array(categories, np.intp), np.array(is_crowd, bool))


def count_segments(truth: Segments, predicted: Segments, num_categories: int) -> np.ndarray:
    """Count the matched segments of an image by category.

    Two segments of a category match when they overlap by more than half; pixels without ground
    truth are excluded. Crowds need no match. An unmatched prediction is a false positive unless
    more than half of it has no ground truth or is on crowds of its category.

    Returns:
        (4, C): the sum of the overlaps of matches, and the numbers of matches, of missed segments,
        and of false positives.
    """
    shape = len(truth.categories) + 1, len(predicted.categories) + 1
    positions = truth.map * shape[1] + predicted.map  # (H, W)
    pixels = np.bincount(positions.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    common, unknown = pixels[1:, 1:], pixels[0, 1:]  # (truth, predicted), (predicted,)
    true_areas, areas = pixels[1:].sum(axis=1), pixels[:, 1:].sum(axis=0)
    unions = true_areas[:, None] + areas - common - unknown
    same = truth.categories[:, None] == predicted.categories
    overlaps = common / np.maximum(unions, 1)
    matches = same & ~truth.is_crowd[:, None] & (overlaps > 0.5)  # at most one per row and column
    missed = ~matches.any(axis=1) & ~truth.is_crowd
    excused = unknown + np.where(same & truth.is_crowd[:, None], common, 0).sum(axis=0)
    false = ~matches.any(axis=0) & (areas > 0) & (excused <= 0.5 * areas)
    matched = truth.categories[np.nonzero(matches)[0]]
    rows = (
        np.bincount(matched, overlaps[matches], num_categories),
        np.bincount(matched, minlength=num_categories),
        np.bincount(truth.categories[missed], minlength=num_categories),
        np.bincount(predicted.categories[false], minlength=num_categories),
    )
    return np.stack(rows)


class Quality(NamedTuple):
    """Per-category quality in percent; NaN for categories that do not occur."""

    panoptic: np.ndarray  # (C,) PQ, the product of the other two
    segmentation: np.ndarray  # (C,) SQ, the mean overlap of matches
    recognition: np.ndarray  # (C,) RQ, the F1 score

    @classmethod
    def of(cls, counts: np.ndarray) -> "Quality":
        """Compute the quality from the counts (4, C) summed over all images."""
        overlap, matched, missed, false = counts
        with np.errstate(invalid="ignore"):  # 0 / 0 is meant to be NaN
            recognition = matched / (matched + (missed + false) / 2)
        segmentation = overlap / np.maximum(matched, 1)
        segmentation[np.isnan(recognition)] = np.nan
        return cls(100 * segmentation * recognition, 100 * segmentation, 100 * recognition)

    def means(self, chosen: np.ndarray) -> tuple[float, float, float]:
        """Return PQ, SQ and RQ over the chosen categories (C,) that occur; NaN if none does."""
        chosen = chosen & ~np.isnan(self.panoptic)
        if not chosen.any():
            return (Missing(NOT_ANNOTATED),) * 3
        panoptic, segmentation, recognition = (float(values[chosen].mean()) for values in self)
        return panoptic, segmentation, recognition
