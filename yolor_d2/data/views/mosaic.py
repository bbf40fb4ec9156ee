"""Where the images of a strong view go: geometry alone.

The canvas of a mosaic is never made: an image's place on it and the view of it are composed to one
map from image to output, which moves pixels, boxes, masks and semantic labels alike (canvas.py).
"""

import math
from typing import NamedTuple

import numpy as np

from ..files.images import REDUCTIONS
from .targets import box_areas, move_boxes
from .transforms import compose, long_side_size

Rectangle = tuple[float, float, float, float]  # x0, y0, x1, y1

MAX_PASTE_COVER = 0.3  # share of any box that a pasted object may hide


class Placement(NamedTuple):
    """Where an image lies on the canvas."""

    matrix: np.ndarray  # (2, 3) image -> canvas, without rotation
    region: Rectangle  # the part of it that the canvas shows, in image pixels


class Window(NamedTuple):
    """The part of an image that the output shows, and how it gets there."""

    matrix: np.ndarray  # (2, 3) image -> output
    region: Rectangle  # on the canvas, in image pixels
    source: Rectangle  # in the output too, in image pixels
    target: tuple[int, int, int, int]  # in the output, whole pixels
    reduction: int  # at which the image is wanted
    is_upright: bool  # no rotation or shear: source is exactly what lands on target


def place_in_mosaic(
    *, width: int, height: int, position: int, centre: np.ndarray, tile_size: int
) -> Placement:
    """One of four images around a point of a canvas of 2 x 2 tiles, which it touches with a corner.

    Args:
        width, height: of the image.
        position: 0 to 3 for top left, top right, bottom left, bottom right.
        centre: (2,) the point, x and y in pixels of the canvas.
        tile_size: the long side of the image on the canvas, half a side of the canvas.
    """
    new_width, new_height = long_side_size(width=width, height=height, size=tile_size)
    left = centre[0] - (new_width if position % 2 == 0 else 0)
    top = centre[1] - (new_height if position < 2 else 0)
    x_scale, y_scale = new_width / width, new_height / height
    region = (
        max(-left / x_scale, 0),
        max(-top / y_scale, 0),
        min((2 * tile_size - left) / x_scale, width),
        min((2 * tile_size - top) / y_scale, height),
    )
    return Placement(np.array([[x_scale, 0, left], [0, y_scale, top]]), region)


def place_alone(*, width: int, height: int, tile_size: int) -> Placement:
    """One image in the middle of a canvas of one tile (letterbox)."""
    new_width, new_height = long_side_size(width=width, height=height, size=tile_size)
    corner = ((tile_size - new_width) // 2, (tile_size - new_height) // 2)
    scale = np.diag([new_width / width, new_height / height])
    return Placement(np.column_stack([scale, corner]), (0, 0, width, height))


def look(placement: Placement, view: np.ndarray, *, size: int) -> Window | None:
    """What a view of the canvas shows of an image; None when nothing.

    Upright views are snapped to whole pixels of both, so that plain resizing, several times faster
    than warping, is exact: the window's matrix says what really happens, to pixels and labels
    alike.
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
    """The strongest reduction at which an image still has a pixel for each one of the output."""
    (a, b, _), (c, d, _) = matrix.tolist()
    scale = max(math.hypot(a, c), math.hypot(b, d))
    return max(k for k in REDUCTIONS if k == 1 or k * scale <= 1)


def _snap(
    scale: float, shift: float, target: tuple[int, int], limit: float, reduction: int
) -> tuple[float, float, float, float]:
    """Of one axis: scale, shift, first and last image coordinate of the pixels that fill target."""
    pixels = math.ceil(limit / reduction)
    first, last = (round((v - shift) / (scale * reduction)) for v in target)
    first = min(max(first, 0), pixels - 1)
    last = min(max(last, first + 1), pixels)
    scale = (target[1] - target[0]) / ((last - first) * reduction)
    return scale, target[0] - scale * first * reduction, first * reduction, last * reduction


def choose_pastes(
    boxes: np.ndarray, *, side: int, share: float, rng: np.random.Generator
) -> list[int]:
    """Which objects of a canvas are pasted once more, mirrored.

    Args:
        boxes: (G, 4) of all objects, in pixels of the canvas.
        side: of the canvas.
        share: how many of them, at most: those count whose mirror images, together, hide little of
            any box, be it there before or pasted.
    """
    wanted = round(share * len(boxes))
    mirrored = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [side, 0, side, 0]
    areas = box_areas(boxes)
    there = boxes  # and what is pasted
    hidden = np.zeros(len(boxes))  # share of each
    chosen: list[int] = []
    for index in rng.permutation(np.flatnonzero(areas > 0)).tolist():
        if len(chosen) == wanted:
            break
        first = np.maximum(mirrored[index, :2], there[:, :2])
        last = np.minimum(mirrored[index, 2:], there[:, 2:])
        more = (last - first).clip(0).prod(axis=1) / np.maximum(areas, 1e-9)
        if (hidden + more < MAX_PASTE_COVER).all():
            chosen.append(index)
            there = np.concatenate([there, mirrored[index : index + 1]])
            areas = np.append(areas, areas[index])
            hidden = np.append(hidden + more, 0)
    return chosen
