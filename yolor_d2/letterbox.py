"""Padding images to a common canvas, and undoing it exactly for boxes, masks and semantic maps.

The mapper brings an image's long side to size; the model pads it. Sizes are in pixels; a content
rectangle says where on the canvas the resized image lies.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

PAD_VALUE = 114
MODES = ("corner", "center")


class Content(NamedTuple):
    """Where an image lies on its canvas."""

    left: int
    top: int
    width: int
    height: int


class Fit(NamedTuple):
    """How an image is brought onto a canvas: shrunk by ratio if it is too large, then padded."""

    ratio: float
    pad_x: float  # half the difference of the widths; may be a half
    pad_y: float
    content: Content


def fit(*, width: int, height: int, canvas_width: int, canvas_height: int) -> Fit:
    """Centre an image on a canvas, shrinking it if need be, never enlarging."""
    ratio = min(canvas_width / width, canvas_height / height, 1.0)
    new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    pad_x, pad_y = (canvas_width - new_width) / 2, (canvas_height - new_height) / 2
    # An odd difference leaves the smaller half on the left and at the top.
    left, top = round(pad_x - 0.1), round(pad_y - 0.1)
    return Fit(ratio, pad_x, pad_y, Content(left, top, new_width, new_height))


def pad_images(
    images: Sequence[Tensor], *, divisor: int = 32, mode: str = "corner"
) -> tuple[Tensor, list[Content]]:
    """Batch images of different sizes.

    Args:
        images: each (3, h, w), of one type and device.
        divisor: both sides of the canvas are the smallest multiples of it that hold every image.
        mode: "corner" puts images at the top left, "center" in the middle.

    Returns:
        The batch (N, 3, H, W), padded with PAD_VALUE, and where each image lies.
    """
    if mode not in MODES:
        raise ValueError(f"MODEL.YOLOR.PAD must be one of {', '.join(MODES)}, not {mode}")
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
    """Boxes (..., 4) x0 y0 x1 y1 on a canvas -> on the original image of this size, clipped."""
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
    """Take padding (x, y) off boxes (..., 4), multiply by scale (x, y), clip to an image."""
    moved = (boxes - boxes.new_tensor(pad).repeat(2)) * boxes.new_tensor(scale).repeat(2)
    return moved.clamp(min=0).minimum(moved.new_tensor([width, height] * 2))


def maps_to_image(maps: Tensor, content: Content, *, width: int, height: int) -> Tensor:
    """Cut the content out of maps at canvas size, and resize it bilinearly to the image.

    Args:
        maps: (N, C, H, W) float, as large as the canvas: logits or masks in 0..1.
        content: where the image lies; the same for all N.
        width, height: of the image.

    Returns:
        (N, C, height, width). A mask holds where it is >= 0.5.
    """
    rows = slice(content.top, content.top + content.height)
    columns = slice(content.left, content.left + content.width)
    inside = maps[:, :, rows, columns]
    return F.interpolate(inside, size=(height, width), mode="bilinear", align_corners=False)
