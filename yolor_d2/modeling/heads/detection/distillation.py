"""Losses of point predictions against those of a teacher.

Shapes: N images, A points, M of them that the teacher is sure of, C classes, R bins.
"""

import torch
from torch import Tensor

from ...layers.functional import binary_divergence, divergence, pick
from ...objects import SurePoints
from ...reduce import over_processes
from .geometry import distances_to_boxes, expected_distances
from .losses import complete_iou

MAX_POINTS = 256  # of an image


def sure_points(logits: Tensor, boxes: Tensor, *, threshold: float) -> SurePoints:
    """The points with the best class scores.

    Their number is constant, so that the host does not wait for the device.

    Args:
        logits: (N, A, C).
        boxes: (N, A, 4).
        threshold: lowest score of a point that the teacher is sure of.
    """
    scores = logits.to(boxes.dtype).amax(dim=2).sigmoid()  # (N, A)
    best, index = scores.topk(min(MAX_POINTS, scores.shape[1]), dim=1)  # (N, M) both
    weights = torch.where(best > threshold, best, 0)
    return SurePoints(index, pick(boxes, index), weights)


def class_loss(logits: Tensor, teacher: Tensor, points: SurePoints) -> Tensor:
    """Divergence of the class probabilities (N, A, C) of all points.

    Points that the teacher is not sure of are included: without labels, nothing else teaches what
    the background is. The sum is divided by the sum of the sure scores.
    """
    total, processes = over_processes(points.weights.sum())
    return binary_divergence(logits, teacher).sum() * processes / total.clamp(min=1)


def box_losses(
    bins: Tensor, teacher: Tensor, points: SurePoints, *, centers: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """Complete IoU loss and divergence of the bins, means over the sure points.

    Args:
        bins, teacher: (N, A, 4 * R) logits.
        points: that the teacher is sure of.
        centers: (A, 2) of the cells, in pixels of the canvas.
        strides: (A,) sides of the cells.
    """
    total, processes = over_processes(points.weights.sum())
    weights = points.weights * processes / total.clamp(min=1)  # (N, M)
    own, theirs = pick(bins, points.point), pick(teacher, points.point)  # (N, M, 4 * R)
    stride = strides[points.point, None]  # (N, M, 1)
    boxes = distances_to_boxes(centers[points.point] / stride, expected_distances(own))
    overlap = complete_iou(boxes, points.boxes / stride)  # (N, M)
    by_side = divergence(own.unflatten(-1, (4, -1)), theirs.unflatten(-1, (4, -1)), dim=-1)
    return ((1 - overlap) * weights).sum(), (by_side.mean(dim=-1) * weights).sum()
