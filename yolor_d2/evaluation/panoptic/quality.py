"""Panoptic quality, as COCO defines it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..missing import Missing


class Segments(NamedTuple):
    """The K segments of an image.

    Attributes:
        map: (H, W), 0 where nothing is, else the number of the segment, from 1 on.
        categories: (K,) of the segments.
        is_crowd: (K,) bool.
    """

    map: np.ndarray
    categories: np.ndarray
    is_crowd: np.ndarray

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        known: Sequence[int],
        categories: Sequence[int],
        is_crowd: Sequence[bool],
    ) -> "Segments":
        """From a map of any ids; those that are not known are nothing."""
        numbers = np.zeros(ids.shape, np.intp)  # (H, W)
        # A table of all ids would be as large as COCO's ids are, and slow.
        for number, segment_id in enumerate(known, start=1):
            numbers[ids == segment_id] = number
        return cls(numbers, np.array(categories, np.intp), np.array(is_crowd, bool))


def count_segments(truth: Segments, predicted: Segments, num_categories: int) -> np.ndarray:
    """What was found of each category in an image.

    A segment is found by one of its category when they overlap by more than half, where nothing is
    known not counted. Crowds need not be found. A prediction that finds nothing is wrong, unless
    more than half of it lies where nothing is known or on crowds of its category.

    Returns:
        (4, C): the sum of the overlaps of what was found; how many segments were found; how many
        were missed; how many predictions were wrong.
    """
    shape = len(truth.categories) + 1, len(predicted.categories) + 1
    positions = truth.map * shape[1] + predicted.map  # (H, W)
    pixels = np.bincount(positions.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    common, unknown = pixels[1:, 1:], pixels[0, 1:]  # (truth, predicted), (predicted,)
    true_areas, areas = pixels[1:].sum(axis=1), pixels[:, 1:].sum(axis=0)
    unions = true_areas[:, None] + areas - common - unknown
    same = truth.categories[:, None] == predicted.categories
    overlaps = common / np.maximum(unions, 1)
    pairs = same & ~truth.is_crowd[:, None] & (overlaps > 0.5)  # one at most in a row or column
    missed = ~pairs.any(axis=1) & ~truth.is_crowd
    excused = unknown + np.where(same & truth.is_crowd[:, None], common, 0).sum(axis=0)
    wrong = ~pairs.any(axis=0) & (areas > 0) & (excused <= 0.5 * areas)
    of_pairs = truth.categories[np.nonzero(pairs)[0]]
    columns = (
        np.bincount(of_pairs, overlaps[pairs], num_categories),
        np.bincount(of_pairs, minlength=num_categories),
        np.bincount(truth.categories[missed], minlength=num_categories),
        np.bincount(predicted.categories[wrong], minlength=num_categories),
    )
    return np.stack(columns)


class Quality(NamedTuple):
    """Of C categories, in percent; NaN for those that nothing is of."""

    panoptic: np.ndarray  # (C,) PQ, the product of the other two
    segmentation: np.ndarray  # (C,) SQ, the mean overlap of what was found
    recognition: np.ndarray  # (C,) RQ, the F1 score of finding

    @classmethod
    def of(cls, counts: np.ndarray) -> "Quality":
        """From the sum (4, C) over all images."""
        overlap, found, missed, wrong = counts
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
            recognition = found / (found + (missed + wrong) / 2)
        segmentation = overlap / np.maximum(found, 1)
        segmentation[np.isnan(recognition)] = np.nan
        return cls(100 * segmentation * recognition, 100 * segmentation, 100 * recognition)

    def means(self, chosen: np.ndarray) -> tuple[float, float, float]:
        """PQ, SQ and RQ over the chosen categories (C,) that occur; NaN if none does."""
        chosen = chosen & ~np.isnan(self.panoptic)
        if not chosen.any():
            return (Missing("nothing of the kind is annotated"),) * 3
        panoptic, segmentation, recognition = (float(values[chosen].mean()) for values in self)
        return panoptic, segmentation, recognition
