"""Loss of masks against those of a teacher."""

import torch
from torch import Tensor

from ...layers.functional import binary_divergence
from ...objects import SurePoints
from ...reduce import over_processes

MAX_POINTS = 64  # of an image: each has a mask of the size of the prototypes

Masks = tuple[Tensor, Tensor]  # coefficients (N, A, K), prototypes (N, K, h, w)


def mask_divergence(own: Masks, teacher: Masks, points: SurePoints, *, stride: int) -> Tensor:
    """Divergence of the mask probabilities, mean over the cells of a box, then over points.

    The best points of each image are compared. Numbers of prototypes K can differ.

    Args:
        own, teacher: predictions.
        points: that the teacher is sure of.
        stride: pixels per cell of the prototypes.
    """
    points = SurePoints(*(each[:, :MAX_POINTS] for each in points))
    total, processes = over_processes(points.weights.sum())
    weights = points.weights * processes / total.clamp(min=1)  # (N, M)
    with torch.autocast(own[0].device.type, enabled=False):
        logits, target = (_logits(each, points.point) for each in (own, teacher))
    inside = _inside(points.boxes / stride, logits)  # (N, M, h, w)
    cells = inside.sum(dim=(2, 3)).clamp(min=1)  # (N, M)
    sums = (binary_divergence(logits, target) * inside).sum(dim=(2, 3))
    return (sums / cells * weights).sum()


def _logits(masks: Masks, index: Tensor) -> Tensor:
    """Mask logits (N, M, h, w) of the points (N, M)."""
    coefficients, prototypes = (each.to(_at_least_float32(each)) for each in masks)
    selected = coefficients.gather(1, index[..., None].expand(-1, -1, coefficients.shape[2]))
    return torch.bmm(selected, prototypes.flatten(2)).unflatten(2, prototypes.shape[2:])


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _inside(boxes: Tensor, logits: Tensor) -> Tensor:
    """Whether the top left corners of cells are in boxes (N, M, 4) in cells: (N, M, h, w) bool."""
    height, width = logits.shape[-2:]
    left, top, right, bottom = boxes.unsqueeze(-2).unbind(-1)  # (N, M, 1) each
    x = torch.arange(width, device=boxes.device)
    y = torch.arange(height, device=boxes.device)
    inside_x = (x >= left) & (x < right)  # (N, M, w)
    inside_y = (y >= top) & (y < bottom)  # (N, M, h)
    return inside_y.unsqueeze(-1) & inside_x.unsqueeze(-2)
