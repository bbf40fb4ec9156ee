"""How far predicted boxes and classes are from the true ones."""

import math

import torch
from torch import Tensor

from ...layers.functional import softplus

# What published weights were trained with. Where boxes are a few cells large it is not negligible.
EPS = 1e-7
# The largest distance to learn is so much less than the last bin.
BIN_MARGIN = 0.01


def complete_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Complete IoU: overlap less the distance of centres less the difference of aspect ratios.

    As published, heights are a little larger than the boxes say, and widths are not: a box without
    area has a ratio. The trade-off of the last term has no gradient.

    Args:
        boxes1, boxes2: (..., 4) x0 y0 x1 y1; shapes broadcast.

    Returns:
        (...), at most 1; negative for boxes far apart.
    """
    left1, top1, right1, bottom1 = boxes1.unbind(-1)
    left2, top2, right2, bottom2 = boxes2.unbind(-1)
    width1, height1 = right1 - left1, bottom1 - top1 + EPS
    width2, height2 = right2 - left2, bottom2 - top2 + EPS

    shared_width = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp(min=0)
    shared_height = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp(min=0)
    shared = shared_width * shared_height
    iou = shared / (width1 * height1 + width2 * height2 - shared + EPS)

    hull_width = torch.maximum(right1, right2) - torch.minimum(left1, left2)
    hull_height = torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)
    diagonal = hull_width**2 + hull_height**2 + EPS
    distance = ((left2 + right2 - left1 - right1) ** 2 + (top2 + bottom2 - top1 - bottom1) ** 2) / 4

    angle = torch.atan(width2 / height2) - torch.atan(width1 / height1)
    aspect = 4 / math.pi**2 * angle**2
    with torch.no_grad():
        trade_off = aspect / (aspect - iou + (1 + EPS))
    return iou - distance / diagonal - trade_off * aspect


def distribution_focal_loss(bins: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy with the two bins next to the true distance, by how near it is to each.

    Args:
        bins: (P, 4 * R) logits, side by side.
        distances: (P, 4) true ones in cells, of any size; those beyond the bins count as the last.

    Returns:
        (P,) means over the four sides.
    """
    log_probabilities = bins.unflatten(-1, (4, -1)).log_softmax(dim=-1)  # (P, 4, R)
    target = distances.clamp(0, log_probabilities.shape[-1] - 1 - BIN_MARGIN)
    lower = target.long()
    fraction = target - lower
    nearest = torch.stack([lower, lower + 1], dim=-1)  # (P, 4, 2)
    weights = torch.stack([1 - fraction, fraction], dim=-1)
    return -(log_probabilities.gather(-1, nearest) * weights).sum(dim=-1).mean(dim=-1)


def sparse_binary_cross_entropy(
    logits: Tensor, positive_logits: Tensor, scores: Tensor, known: Tensor
) -> Tensor:
    """Binary cross-entropy summed over all logits, whose targets are 0 but at a few places.

    Targets as large as the logits are never made.

    Args:
        logits: (N, A, C).
        positive_logits: (P,) those whose target is not 0.
        scores: (P,) their targets.
        known: (N,) bool; logits of other images have no target, hence no loss.
    """
    of_zeros = softplus(logits).sum(dim=(1, 2))  # (N,)
    return (of_zeros * known).sum() - (positive_logits * scores).sum()
