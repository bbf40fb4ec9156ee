"""Box and classification losses."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ....checks import check_range
from ...layers.functional import softplus

# The value that published weights were trained with. It matters for boxes of a few cells.
EPS = 1e-7
BIN_MARGIN = 0.01  # difference between the last bin and the largest target distance


class DetectionLossWeights(NamedTuple):
    """Factors of the losses of the detection head.

    Attributes:
        cls: of the classification loss.
        box: of the complete IoU loss.
        dfl: of the distribution focal loss.
    """

    cls: float = 0.5
    box: float = 7.5
    dfl: float = 1.5

    def check(self) -> None:
        """Raise ValueError for negative weights."""
        weights = {"CLS": self.cls, "BOX": self.box, "DFL": self.dfl}
        check_range("MODEL.DETECTION_HEAD.LOSS_WEIGHT", weights)


def complete_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Complete IoU: IoU minus a penalty for center distance and one for aspect ratio.

    As published, an epsilon is added to heights but not to widths, so that boxes without area have
    an aspect ratio. The weight of the aspect term is not differentiated.

    Args:
        boxes1, boxes2: (..., 4) x0 y0 x1 y1; shapes broadcast.

    Returns:
        (...), at most 1; negative for distant boxes.
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
    """Cross-entropy against the two bins around the true distance, weighted linearly.

    Args:
        bins: (P, 4 * R) logits: left, top, right, bottom.
        distances: (P, 4) true distances in cells, clamped to the range of the bins.

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
    logits: Tensor,
    positive_logits: Tensor,
    scores: Tensor,
    known: Tensor,
    positive_known: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy summed over all logits, with few nonzero targets.

    A dense target tensor is never allocated.

    Args:
        logits: (N, A, C).
        positive_logits: (P,) logits with a nonzero target.
        scores: (P,) targets of the positive logits.
        known: (N,) bool, or (N, C) bool for each class of an image; other logits have neither a
            loss nor a gradient, except positive ones.
        positive_known: (P,) bool, with (N, C): `known` of the positive logits.
    """
    points_and_classes = (1, 2) if known.dim() == 1 else (1,)
    negative_loss = softplus(logits).sum(dim=points_and_classes)  # as known
    loss = (negative_loss * known).sum() - (positive_logits * scores).sum()
    if positive_known is not None:
        loss = loss + (softplus(positive_logits) * ~positive_known).sum()
    return loss
