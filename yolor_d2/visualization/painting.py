"""Colours over pixels: objects in their own windows, maps in one pass over the picture."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .colors import PAPER, Color

LABELLED_SHARE = 0.01  # of the picture, that an area with a name has at least
SKETCH_SIDE = 256  # pixels in which the middle of an area is looked for


class Area(NamedTuple):
    """What the pixels of one number of a map are."""

    name: str
    color: Color
    is_thing: bool = False


def line_width_for(picture: np.ndarray) -> int:
    """Of outlines and boxes, that grows as the picture does."""
    height, width = picture.shape[:2]
    return max(1, round((height * width) ** 0.5 / 350))


def on_paper(picture: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """A picture in the upper left corner of an empty page that is no smaller."""
    page = np.full((height, width, 3), PAPER, dtype=np.uint8)
    page[: picture.shape[0], : picture.shape[1]] = picture
    return page


def paint_mask(picture: np.ndarray, mask: np.ndarray, color: Color, *, opacity: float) -> None:
    """Tint an object and outline it, in place.

    Args:
        picture: is changed in the object's window only.
        mask: (h, w) bool, of the picture's size or of another resolution.
        color: of the object.
        opacity: of the tint.
    """
    left, top, inside = _at_picture(np.ascontiguousarray(mask).view(np.uint8), picture.shape)
    if inside.size == 0:
        return
    window = picture[top : top + inside.shape[0], left : left + inside.shape[1]]
    tints = np.outer(np.arange(256) * (1 - opacity), np.ones(3)) + opacity * np.array(color)
    tinted = cv2.LUT(window, np.rint(tints).astype(np.uint8)[:, None])  # (256, 1, 3) by channel
    np.copyto(window, tinted, where=inside.view(bool)[..., None])
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = line_width_for(picture)
    cv2.drawContours(picture, contours, -1, color, width, cv2.LINE_AA, offset=(left, top))


def _at_picture(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, np.ndarray]:
    """The window of the picture that a mask of 0 and 1 fills: left, top, and 0 or 1 there."""
    x, y, w, h = cv2.boundingRect(mask)
    if mask.shape == shape[:2] or w == 0:
        return x, y, np.ascontiguousarray(mask[y : y + h, x : x + w])
    # One more cell on each side, for the outline to be smooth.
    x0, y0 = max(x - 1, 0), max(y - 1, 0)
    x1, y1 = min(x + w + 1, mask.shape[1]), min(y + h + 1, mask.shape[0])
    across, down = shape[1] / mask.shape[1], shape[0] / mask.shape[0]
    left, top = min(round(x0 * across), shape[1] - 1), min(round(y0 * down), shape[0] - 1)
    size = (max(round(x1 * across) - left, 1), max(round(y1 * down) - top, 1))
    smooth = cv2.resize(255 * mask[y0:y1, x0:x1], size, interpolation=cv2.INTER_LINEAR)
    return left, top, (smooth >= 128).astype(np.uint8)


def paint_map(
    picture: np.ndarray,
    numbers: np.ndarray,
    areas: Sequence[Area],
    *,
    opacity: float,
    outlined: bool,
) -> None:
    """Tint a picture by a map, in place.

    Args:
        picture: stays as it is where the map knows nothing.
        numbers: (h, w) unsigned, indices of areas; larger ones are unknown.
        areas: have the colours.
        opacity: of the tint.
        outlined: draw the border of each area.
    """
    height, width = picture.shape[:2]
    size = (width, height)
    numbers = np.asarray(cv2.resize(numbers, size, interpolation=cv2.INTER_NEAREST), numbers.dtype)
    table = np.array([*(area.color for area in areas), (0, 0, 0)], dtype=np.uint8)
    colors = np.take(table, numbers, axis=0, mode="clip")  # (H, W, 3)
    is_known = (numbers < len(areas)).view(np.uint8)
    blended = cv2.addWeighted(picture, 1 - opacity, colors, opacity, 0)
    cv2.copyTo(blended, is_known, picture)
    if outlined:
        kernel = np.ones((line_width_for(picture) + 2,) * 2, np.uint8)
        is_border = cv2.morphologyEx(numbers, cv2.MORPH_GRADIENT, kernel) > 0
        cv2.copyTo(colors, is_border.view(np.uint8) & is_known, picture)


def area_middles(numbers: np.ndarray, count: int) -> dict[int, tuple[float, float]]:
    """A point well inside each of the larger areas of a map, x, y as shares of its sides.

    Args:
        numbers: (h, w) unsigned.
        count: of areas; larger numbers are unknown.

    Returns:
        By the number of the area, large ones first.
    """
    height, width = numbers.shape
    shrink = max(height, width, SKETCH_SIDE) / SKETCH_SIDE
    size = (max(round(width / shrink), 1), max(round(height / shrink), 1))
    sketch = cv2.resize(numbers, size, interpolation=cv2.INTER_NEAREST)
    pixels = np.bincount(sketch.ravel(), minlength=count)[:count]
    middles = {}
    for number in np.argsort(-pixels, kind="stable").tolist():
        if pixels[number] < max(LABELLED_SHARE * sketch.size, 1):
            break
        # What lies beyond the picture is as far off as another area.
        framed = cv2.copyMakeBorder(
            (sketch == number).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT
        )
        depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
        _, _, _, (x, y) = cv2.minMaxLoc(depth)
        middles[number] = ((x - 0.5) / size[0], (y - 0.5) / size[1])
    return middles


def compact(labels: np.ndarray, rows: dict[int, int]) -> np.ndarray:
    """A map (h, w) of any numbers as one of rows, in as few bytes as do; others are beyond all."""
    unknown = len(set(rows.values()))
    dtype = np.uint8 if unknown <= 255 else np.uint16
    table = np.full(max(rows, default=0) + 2, unknown, dtype)
    for number, row in rows.items():
        table[number] = row
    within = np.where(labels < 0, len(table) - 1, labels) if labels.min() < 0 else labels
    return np.take(table, within, mode="clip")
