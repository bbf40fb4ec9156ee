"""Blending colors into pictures: masks in their own windows, maps in one pass."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .colors import BACKGROUND, Color

MIN_LABELED_SHARE = 0.01  # share of the picture; smaller regions get no name
COARSE_SIDE = 256  # pixels; label positions are computed at this size


class Region(NamedTuple):
    """Name and color of one label of a map."""

    name: str
    color: Color
    is_thing: bool = False


def line_width_for(picture: np.ndarray) -> int:
    """Return the width of outlines and boxes, which grows with the picture."""
    height, width = picture.shape[:2]
    return max(1, round((height * width) ** 0.5 / 350))


def pad_picture(picture: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Pad a picture at its bottom and right to a size."""
    padded = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return padded


def paint_mask(picture: np.ndarray, mask: np.ndarray, color: Color, *, opacity: float) -> None:
    """Tint an object and draw its outline, in place.

    Args:
        picture: changed only within the object's bounding box.
        mask: (h, w) bool, of any resolution.
        color: color of the object.
        opacity: opacity of the tint.
    """
    left, top, inside = _resize_mask(np.ascontiguousarray(mask).view(np.uint8), picture.shape)
    if inside.size == 0:
        return
    window = picture[top : top + inside.shape[0], left : left + inside.shape[1]]
    tints = np.outer(np.arange(256) * (1 - opacity), np.ones(3)) + opacity * np.array(color)
    tinted = cv2.LUT(window, np.rint(tints).astype(np.uint8)[:, None])  # (256, 1, 3) by channel
    np.copyto(window, tinted, where=inside.view(bool)[..., None])
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = line_width_for(picture)
    cv2.drawContours(picture, contours, -1, color, width, cv2.LINE_AA, offset=(left, top))


def _resize_mask(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, np.ndarray]:
    """Return the window that a mask of 0 and 1 covers in a picture: left, top, mask."""
    x, y, w, h = cv2.boundingRect(mask)
    if mask.shape == shape[:2] or w == 0:
        return x, y, np.ascontiguousarray(mask[y : y + h, x : x + w])
    # A margin of one cell makes the outline smooth.
    x0, y0 = max(x - 1, 0), max(y - 1, 0)
    x1, y1 = min(x + w + 1, mask.shape[1]), min(y + h + 1, mask.shape[0])
    scale_x, scale_y = shape[1] / mask.shape[1], shape[0] / mask.shape[0]
    left, top = min(round(x0 * scale_x), shape[1] - 1), min(round(y0 * scale_y), shape[0] - 1)
    size = (max(round(x1 * scale_x) - left, 1), max(round(y1 * scale_y) - top, 1))
    smooth = cv2.resize(255 * mask[y0:y1, x0:x1], size, interpolation=cv2.INTER_LINEAR)
    return left, top, (smooth >= 128).astype(np.uint8)


def paint_map(
    picture: np.ndarray,
    labels: np.ndarray,
    regions: Sequence[Region],
    *,
    opacity: float,
    outlined: bool,
) -> None:
    """Tint a picture by the labels of its pixels, in place.

    Args:
        picture: unchanged at unknown labels.
        labels: (h, w) unsigned, indices of `regions`; larger ones are unknown.
        regions: the colors.
        opacity: opacity of the tint.
        outlined: draw the borders of regions.
    """
    height, width = picture.shape[:2]
    size = (width, height)
    labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), labels.dtype)
    table = np.array([*(region.color for region in regions), (0, 0, 0)], dtype=np.uint8)
    colors = np.take(table, labels, axis=0, mode="clip")  # (H, W, 3)
    is_known = (labels < len(regions)).view(np.uint8)
    blended = cv2.addWeighted(picture, 1 - opacity, colors, opacity, 0)
    cv2.copyTo(blended, is_known, picture)
    if outlined:
        kernel = np.ones((line_width_for(picture) + 2,) * 2, np.uint8)
        is_border = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, kernel) > 0
        cv2.copyTo(colors, is_border.view(np.uint8) & is_known, picture)


def label_positions(labels: np.ndarray, count: int) -> dict[int, tuple[float, float]]:
    """Return the innermost point of each large region of a map, x and y from 0 to 1.

    Args:
        labels: (h, w) unsigned.
        count: number of labels; larger ones are unknown.

    Returns:
        Points by label, largest region first.
    """
    height, width = labels.shape
    shrink = max(height, width, COARSE_SIDE) / COARSE_SIDE
    size = (max(round(width / shrink), 1), max(round(height / shrink), 1))
    coarse = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    pixels = np.bincount(coarse.ravel(), minlength=count)[:count]
    positions = {}
    for label in np.argsort(-pixels, kind="stable").tolist():
        if pixels[label] < max(MIN_LABELED_SHARE * coarse.size, 1):
            break
        # The padding makes the border of the picture a border of the region.
        padded = cv2.copyMakeBorder(
            (coarse == label).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT
        )
        distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
        _, _, _, (x, y) = cv2.minMaxLoc(distance)
        positions[label] = ((x - 0.5) / size[0], (y - 0.5) / size[1])
    return positions


def compact_labels(ids: np.ndarray, rows: dict[int, int]) -> np.ndarray:
    """Map the ids (h, w) to `rows` in the smallest dtype; unknown ids become a larger number."""
    unknown = len(set(rows.values()))
    dtype = np.uint8 if unknown <= 255 else np.uint16
    table = np.full(max(rows, default=0) + 2, unknown, dtype)
    for number, row in rows.items():
        table[number] = row
    within = np.where(ids < 0, len(table) - 1, ids) if ids.min() < 0 else ids
    return np.take(table, within, mode="clip")
