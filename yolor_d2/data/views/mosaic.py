"""Geometry of the strong view: the placement of images on a mosaic, and a view of it.

The mosaic itself is never rendered: an image's placement and the view are composed to one map from
image to output, used for pixels, boxes, masks and semantic labels (canvas.py).
"""

import math
from typing import NamedTuple

import numpy as np

from ..files.images import REDUCTIONS
from .targets import box_areas, move_boxes
from .transforms import compose, long_side_size

Rectangle = tuple[float, float, float, float]  # x0, y0, x1, y1

MAX_PASTE_COVER = 0.3  # share of any box that pasted objects may hide


class Placement(NamedTuple):
    """The placement of an image on the canvas."""

    matrix: np.ndarray  # (2, 3) image -> canvas, without rotation
    region: Rectangle  # the part of the image on the canvas, in image pixels


class Window(NamedTuple):
    """The part of an image that is visible on the output, and the map to it."""

    matrix: np.ndarray  # (2, 3) image -> output
    region: Rectangle  # the part on the canvas, in image pixels
    source: Rectangle  # the part on the output, in image pixels
    target: tuple[int, int, int, int]  # that part in whole pixels of the output
    reduction: int  # at which to read the image
    is_upright: bool  # no rotation or shear: source maps exactly to target


def place_in_mosaic(
    *, width: int, height: int, position: int, center: np.ndarray, tile_size: int
) -> Placement:
    """Place one of four images with a corner at a common point of a canvas of 2 x 2 tiles.

    Args:
        width, height: size of the image.
        position: 0 to 3 for top left, top right, bottom left, bottom right of the point.
        center: (2,) the point, x and y in pixels of the canvas.
        tile_size: long side of the image on the canvas; half the side of the canvas.
    """
    new_width, new_height = long_side_size(width=width, height=height, size=tile_size)
    left = center[0] - (new_width if position % 2 == 0 else 0)
    top = center[1] - (new_height if position < 2 else 0)
    x_scale, y_scale = new_width / width, new_height / height
    region = (
        max(-left / x_scale, 0),
        max(-top / y_scale, 0),
        min((2 * tile_size - left) / x_scale, width),
        min((2 * tile_size - top) / y_scale, height),
    )
    return Placement(np.array([[x_scale, 0, left], [0, y_scale, top]]), region)


def place_centered(*, width: int, height: int, tile_size: int) -> Placement:
    """Place one image in the center of a canvas of one tile (letterbox)."""
    new_width, new_height = long_side_size(width=width, height=height, size=tile_size)
    corner = ((tile_size - new_width) // 2, (tile_size - new_height) // 2)
    scale = np.diag([new_width / width, new_height / height])
    return Placement(np.column_stack([scale, corner]), (0, 0, width, height))


def visible_window(placement: Placement, view: np.ndarray, *, size: int) -> Window | None:
    """Return the part of an image that is visible in a view of the canvas; None if there is none.

    Upright windows are snapped to whole pixels of image and output, so that resizing, several times
    faster than warping, is exact. The window's matrix is the snapped map.
    """
    matrix = compose(view, placement.matrix)
    region = placement.region
    whole = move_boxes(np.array([region]), matrix)[0].tolist()
    first_x, first_y, last_x, last_y = (min(max(round(v), 0), size) for v in whole)
    if first_x >= last_x or first_y >= last_y:
        return None
    target = (first_x, first_y, last_x, last_y)
    reduction = reduction_for(matrix)
    (x_scale, x_shear, x_shift), (y_shear, y_scale, y_shift) = matrix.tolist()
    if x_shear or y_shear:
        return Window(matrix, region, region, target, reduction, is_upright=False)
    x_scale, x_shift, x0, x1 = _snap(x_scale, x_shift, (first_x, last_x), region[2], reduction)
    y_scale, y_shift, y0, y1 = _snap(y_scale, y_shift, (first_y, last_y), region[3], reduction)
    snapped = np.array([[x_scale, 0, x_shift], [0, y_scale, y_shift]])
    return Window(snapped, region, (x0, y0, x1, y1), target, reduction, is_upright=True)


def reduction_for(matrix: np.ndarray) -> int:
    """Return the strongest reduction at which the image need not be enlarged."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return reduction_at(max(math.hypot(a, c), math.hypot(b, d)))


def reduction_at(scale: float) -> int:
    """Return the strongest reduction at which an image shown at a scale need not be enlarged."""
    return max(k for k in REDUCTIONS if k == 1 or k * scale <= 1)


def _snap(
    scale: float, shift: float, target: tuple[int, int], limit: float, reduction: int
) -> tuple[float, float, float, float]:
    """Snap one axis: return scale, shift, first and last coordinate of the source in the image."""
    pixels = math.ceil(limit / reduction)
    first, last = (round((v - shift) / (scale * reduction)) for v in target)
    first = min(max(first, 0), pixels - 1)
    last = min(max(last, first + 1), pixels)
    scale = (target[1] - target[0]) / ((last - first) * reduction)
    return scale, target[0] - scale * first * reduction, first * reduction, last * reduction


def choose_pastes(
    boxes: np.ndarray, *, side: int, share: float, rng: np.random.Generator
) -> list[int]:
    """Choose objects of a canvas to paste once more, mirrored.

    The mirrored copies together hide less than MAX_PASTE_COVER of every box, original or pasted.

    Args:
        boxes: (G, 4) of all objects, in pixels of the canvas.
        side: side of the canvas in pixels.
        share: largest share of the objects to choose.
        rng: source of randomness.

    Returns:
        Indices of objects.
    """
    count = len(boxes)
    wanted = round(share * count)
    mirrored = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [side, 0, side, 0]
    areas = box_areas(boxes)
    x0, y0, x1, y1 = np.concatenate([boxes, mirrored]).T.copy()  # each (2 G,)
    safe_areas = np.tile(np.maximum(areas, 1e-9), 2)
    is_present = np.repeat([1.0, 0.0], count)  # the original boxes, then the pasted ones
    hidden = np.zeros(2 * count)  # hidden share of each
    chosen: list[int] = []
    for index in rng.permutation(np.flatnonzero(areas > 0)).tolist():
        if len(chosen) == wanted:
            break
        left, top, right, bottom = mirrored[index].tolist()
        width = np.maximum(np.minimum(x1, right) - np.maximum(x0, left), 0)
        height = np.maximum(np.minimum(y1, bottom) - np.maximum(y0, top), 0)
        total = hidden + is_present * (width * height / safe_areas)
        if total.max() < MAX_PASTE_COVER:
            chosen.append(index)
            is_present[count + index] = 1.0
            hidden = total
    return chosen
