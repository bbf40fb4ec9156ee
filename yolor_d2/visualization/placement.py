"""Placement of labels inside the picture without overlap."""

from collections.abc import Sequence

import numpy as np

Corner = tuple[int, int]  # x, y of a label's upper left corner


def place_labels(
    sizes: Sequence[tuple[int, int]],
    candidates: Sequence[np.ndarray],
    *,
    width: int,
    height: int,
) -> list[Corner | None]:
    """Choose a position for each label greedily, in the given order.

    Args:
        sizes: width and height of each label.
        candidates: (K, 2) upper left corners for each label, best first. Those that cross the
            border of the picture are moved inside.
        width, height: size of the picture.

    Returns:
        The corner of each label; None if all candidates are occupied or the label is larger than
        the picture.
    """
    occupied = np.empty((len(sizes), 4), dtype=np.int64)  # x0 y0 x1 y1
    count = 0
    corners: list[Corner | None] = []
    for size, positions in zip(sizes, candidates, strict=True):
        room = np.array([width, height]) - size
        if (room < 0).any():
            corners.append(None)
            continue
        upper_left = np.clip(np.rint(positions), 0, room).astype(np.int64)  # (K, 2)
        boxes = np.concatenate([upper_left, upper_left + size], axis=1)  # (K, 4)
        free = np.flatnonzero(~_overlap(boxes, occupied[:count]).any(axis=1))
        if len(free) == 0:
            corners.append(None)
            continue
        occupied[count] = boxes[free[0]]
        count += 1
        corners.append((int(boxes[free[0], 0]), int(boxes[free[0], 1])))
    return corners


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which rectangles have common pixels, (K, P) bool."""
    first, second = first[:, None], second[None]
    apart = (first[..., :2] >= second[..., 2:]) | (second[..., :2] >= first[..., 2:])
    return ~np.any(apart, axis=2)


def around_box(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return label corners at the edges of a box x0 y0 x1 y1, above it first, (K, 2).

    Corners inside small boxes come last: the label would hide the object.
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
    """Return label corners that center the label at a point and around it, (K, 2)."""
    w, h = size
    steps = [(0, 0), (0, -1), (0, 1), (-0.5, 0), (0.5, 0), (0, -2), (0, 2)]
    steps += [(x, y) for y in (-1, 1) for x in (-0.5, 0.5)]
    return np.array([(point[0] + (x - 0.5) * w, point[1] + (y - 0.5) * h) for x, y in steps])
