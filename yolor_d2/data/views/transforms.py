"""Geometry and color of the two views, as pure functions of a random generator."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np


class ViewPolicy(NamedTuple):
    """Ranges of the strong view's random affine transform; the published values by default."""

    scale: float = 0.9  # factor uniform in 1 +- this
    translate: float = 0.1  # of the canvas center from the output center, share of the side
    degrees: float = 0.0
    shear: float = 0.0  # degrees


def random_view(
    rng: np.random.Generator, policy: ViewPolicy, *, canvas_size: int, size: int
) -> np.ndarray:
    """Draw a (2, 3) map from a square canvas to a square output: rotate, scale, shear, shift."""
    angle = np.deg2rad(rng.uniform(-policy.degrees, policy.degrees))
    scale = rng.uniform(1 - policy.scale, 1 + policy.scale)
    shear_x, shear_y = np.tan(np.deg2rad(rng.uniform(-policy.shear, policy.shear, size=2)))
    shift = rng.uniform(0.5 - policy.translate, 0.5 + policy.translate, size=2) * size
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = np.array([[1, shear_x], [shear_y, 1]]) @ (scale * rotation)
    return np.column_stack([linear, shift - linear @ [canvas_size / 2, canvas_size / 2]])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Return the (2, 3) map that applies `inner`, then `outer`."""
    composed = outer[:, :2] @ inner  # (2, 3)
    composed[:, 2] += outer[:, 2]
    return composed


def long_side_size(*, width: int, height: int, size: int) -> tuple[int, int]:
    """Return (width, height) with the long side at `size`; the other side is truncated."""
    ratio = size / max(width, height)
    return max(int(width * ratio), 1), max(int(height * ratio), 1)


def resize_long_side(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the long side of (H, W, 3): by area when shrinking, bilinearly when enlarging."""
    height, width = image.shape[:2]
    new_size = long_side_size(width=width, height=height, size=size)
    if new_size == (width, height):
        return image
    shrinks = size < max(width, height)
    return cv2.resize(
        image, new_size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def random_hsv_factors(rng: np.random.Generator, gains: Sequence[float]) -> np.ndarray:
    """Draw (3,) factors of hue, saturation and value, uniform in 1 +- gains."""
    return rng.uniform(-1, 1, size=3) * gains + 1


def multiply_hsv(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply hue, saturation and value of a uint8 RGB image (H, W, 3).

    OpenCV's hue has 180 steps; values up to 255 wrap around in the conversion to RGB.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    cv2.transform(hsv, np.diag(factors), dst=hsv)  # four times as fast as cv2.LUT or cv2.multiply
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def to_planes(image: np.ndarray, *, reverse: bool = False) -> np.ndarray:
    """(H, W, 3) -> contiguous (3, H, W); several times faster than a transposing copy.

    `reverse` makes BGR of RGB.
    """
    planes = np.empty((3, *image.shape[:2]), dtype=np.uint8)
    cv2.split(image, [*(planes[::-1] if reverse else planes)])
    return planes
