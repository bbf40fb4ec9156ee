"""Operands for arithmetic with RGB images of shape (H, W, 3).

NumPy broadcasts (H, W, 1) and (3,) in loops over three numbers. These operands give the same
numbers several times as fast.
"""

import cv2
import numpy as np

Array = np.ndarray


def per_pixel(values: Array) -> Array:
    """Repeat values (H, W) for each channel: (H, W, 3)."""
    if not values.size:  # an error in OpenCV
        return np.empty((*values.shape, 3), values.dtype)
    return cv2.merge([values, values, values])


def per_channel(color: Array, width: int) -> Array:
    """Repeat a color (3,) for a row of pixels: (1, W, 3)."""
    row = np.empty((1, width, 3), color.dtype)
    row[:] = color
    return row
