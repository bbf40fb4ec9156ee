"""Padding images to a common canvas, and the exact inverse for boxes.

The mapper resizes the long side of an image; the model pads the image. Sizes are in pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from .errors import ConfigError

PAD_VALUE = 114
MODES = ("corner", "center")


class Content(NamedTuple):
    """Position and size of an image on its canvas."""

    left: int
    top: int
    width: int
    height: int


class Fit(NamedTuple):
    """How an image is fitted to a canvas: scaled by `ratio`, at most 1, then padded."""

    ratio: float
    pad_x: float  # half the difference of the widths; not always an integer
    pad_y: float  # the same for the heights
    content: Content


def fit(*, width: int, height: int, canvas_width: int, canvas_height: int) -> Fit:
    """Center an image on a canvas; it is shrunk if it is too large, but never enlarged."""
    ratio = min(canvas_width / width, canvas_height / height, 1.0)
    new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    pad_x, pad_y = (canvas_width - new_width) / 2, (canvas_height - new_height) / 2
    # If the difference is odd, the smaller half is on the left and at the top.
    left, top = round(pad_x - 0.1), round(pad_y - 0.1)
    return Fit(ratio, pad_x, pad_y, Content(left, top, new_width, new_height))


def pad_images(
    images: Sequence[Tensor], *, divisor: int = 32, mode: str = "corner"
) -> tuple[Tensor, list[Content]]:
    """Pad images of different sizes to one batch.

    Args:
        images: (3, h, w) each, of one dtype and device.
        divisor: both sides of the canvas are its smallest multiples that fit all images.
        mode: position of the images, "corner" (top left) or "center".

    Returns:
        The batch (N, 3, H, W), padded with PAD_VALUE, and the position of each image.
    """
    if mode not in MODES:
        raise ConfigError(f"MODEL.YOLOR.PAD must be one of {', '.join(MODES)}, not {mode}")
    height = -(-max(image.shape[1] for image in images) // divisor) * divisor
    width = -(-max(image.shape[2] for image in images) // divisor) * divisor
    batch = images[0].new_full((len(images), 3, height, width), PAD_VALUE)  # (N, 3, H, W)
    contents = []
    for canvas, image in zip(batch, images, strict=True):
        h, w = image.shape[1:]
        content = Content(0, 0, w, h)
        if mode == "center":
            content = fit(width=w, height=h, canvas_width=width, canvas_height=height).content
        canvas[:, content.top : content.top + h, content.left : content.left + w] = image
        contents.append(content)
    return batch, contents


def boxes_to_image(boxes: Tensor, content: Content, *, width: int, height: int) -> Tensor:
    """Map boxes (..., 4) x0 y0 x1 y1 from the canvas to an image of this size, clipped."""
    scale = (width / content.width, height / content.height)
    return place_boxes(boxes, (content.left, content.top), scale, width=width, height=height)


def place_boxes(
    boxes: Tensor,
    pad: tuple[float, float],
    scale: tuple[float, float],
    *,
    width: int,
    height: int,
) -> Tensor:
    """Subtract padding (x, y) from boxes (..., 4), multiply by scale (x, y), clip to an image."""
    moved = (boxes - boxes.new_tensor(pad).repeat(2)) * boxes.new_tensor(scale).repeat(2)
    return moved.clamp(min=0).minimum(moved.new_tensor([width, height] * 2))
