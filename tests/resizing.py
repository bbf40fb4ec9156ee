"""Resizing of full-size maps, as in the published code and in detectron2."""

import torch.nn.functional as F
from torch import Tensor

from yolor_d2.letterbox import Content


def maps_to_image(maps: Tensor, content: Content, *, width: int, height: int) -> Tensor:
    """Crop maps to the content and resize them bilinearly to the image.

    Args:
        maps: (N, C, H, W) float, of the size of the canvas: logits or masks in 0..1.
        content: position of the image on the canvas, the same for all N.
        width, height: size of the image.

    Returns:
        (N, C, height, width). Masks are to be thresholded with >= 0.5.
    """
    rows = slice(content.top, content.top + content.height)
    columns = slice(content.left, content.left + content.width)
    inside = maps[:, :, rows, columns]
    return F.interpolate(inside, size=(height, width), mode="bilinear", align_corners=False)
