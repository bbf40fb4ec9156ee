"""Loss of masks against those of a teacher."""

import torch
from torch import Tensor

from ...layers.functional import at_least_float32, binary_divergence, cells_inside, pick
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
    height, width = logits.shape[-2:]
    rows, columns = cells_inside(points.boxes / stride, height=height, width=width)
    inside = rows.unsqueeze(-1) & columns.unsqueeze(-2)  # (N, M, h, w)
    cells = inside.sum(dim=(2, 3)).clamp(min=1)  # (N, M)
    sums = (binary_divergence(logits, target) * inside).sum(dim=(2, 3))
    return (sums / cells * weights).sum()


def _logits(masks: Masks, index: Tensor) -> Tensor:
    """Mask logits (N, M, h, w) of the points (N, M)."""
    coefficients, prototypes = map(at_least_float32, masks)
    selected = pick(coefficients, index)  # (N, M, K)
    return torch.bmm(selected, prototypes.flatten(2)).unflatten(2, prototypes.shape[2:])
