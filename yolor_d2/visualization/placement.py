"""Where labels stand: inside the picture, and never on each other."""

from collections.abc import Sequence

import numpy as np

Corner = tuple[int, int]  # x, y of a label's upper left


def place_labels(
    sizes: Sequence[tuple[int, int]],
    candidates: Sequence[np.ndarray],
    *,
    width: int,
    height: int,
) -> list[Corner | None]:
    """Choose a place for each label, those that come first having the choice.

    Args:
        sizes: of the labels, width and height.
        candidates: of each label, (K, 2) places for its upper left corner, the best first. Those
            that stick out of the picture are moved inside.
        width, height: of the picture.

    Returns:
        The corner of each label; None where every candidate is taken or it is larger than the
        picture.
    """
    taken = np.empty((len(sizes), 4), dtype=np.int64)  # x0 y0 x1 y1
    count = 0
    corners: list[Corner | None] = []
    for size, places in zip(sizes, candidates, strict=True):
        room = np.array([width, height]) - size
        if (room < 0).any():
            corners.append(None)
            continue
        upper_left = np.clip(np.rint(places), 0, room).astype(np.int64)  # (K, 2)
        plates = np.concatenate([upper_left, upper_left + size], axis=1)  # (K, 4)
        free = np.flatnonzero(~_overlap(plates, taken[:count]).any(axis=1))
        if len(free) == 0:
            corners.append(None)
            continue
        taken[count] = plates[free[0]]
        count += 1
        corners.append((int(plates[free[0], 0]), int(plates[free[0], 1])))
    return corners


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which rectangles have pixels in common, (K, P) bool."""
    first, second = first[:, None], second[None]
    apart = (first[..., :2] >= second[..., 2:]) | (second[..., :2] >= first[..., 2:])
    return ~np.any(apart, axis=2)


def around_box(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Places for the label of a box x0 y0 x1 y1: at its edges, above first, (K, 2).

    Within the box only where that leaves most of the object in sight, else as a last resort.
    """
    x0, y0, x1, y1 = box
    w, h = size
    lefts = (x0, x1 - w, (x0 + x1 - w) / 2)
    outside = [(x, y) for y in (y0 - h, y1) for x in lefts] + [(x1, y0), (x0 - w, y0)]
    outside += [(x1, y1 - h), (x0 - w, y1 - h)]
    inside = [(x, y) for y in (y0, y1 - h, (y0 + y1 - h) / 2) for x in lefts]
    has_room = x1 - x0 > 2 * w and y1 - y0 > 4 * h
    order = [outside[0], *inside, *outside[1:]] if has_room else [*outside, *inside]
    return np.array(order)


def around_point(point: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """Places for the label of an area, at a point of it and near by, (K, 2)."""
    w, h = size
    steps = [(0, 0), (0, -1), (0, 1), (-0.5, 0), (0.5, 0), (0, -2), (0, 2)]
    steps += [(x, y) for y in (-1, 1) for x in (-0.5, 0.5)]
    return np.array([(point[0] + (x - 0.5) * w, point[1] + (y - 0.5) * h) for x, y in steps])
