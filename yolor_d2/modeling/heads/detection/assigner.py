"""Task-aligned assignment of objects to points."""

from typing import NamedTuple

import torch
from torch import Tensor

from ....checks import check_range
from ...objects import Assignment, Objects
from .losses import complete_iou

KEY = "MODEL.DETECTION_HEAD.ASSIGN"
INSIDE = 1e-9  # minimum distance in pixels from a point inside a box to its sides
SCORE_EPS = 1e-9


class TaskAlignedAssigner:
    """Assigns each object to the points that predict it best.

    The alignment of a point with an object is score^alpha * overlap^beta, where score is the
    predicted probability of the object's class and overlap the complete IoU of the predicted box.
    An object is assigned to the `topk` best aligned of the points inside its box. A point that is
    selected by several objects is assigned to the object of its image with the largest overlap.
    Small boxes can be enlarged for the choice of points, because few of their points are inside.

    An object is compared with the points of its own image only, in chunks of at most `chunk_pairs`
    pairs of an object and a point (but at least one object). A pair takes about 40 numbers, a chunk
    170 MB in float32, so memory does not grow with the number of objects.
    """

    def __init__(
        self,
        *,
        topk: int = 10,
        alpha: float = 0.5,
        beta: float = 6.0,
        min_side: float = 0.0,
        chunk_pairs: int = 2**20,
    ) -> None:
        """
        Args:
            topk: maximum number of points per object.
            alpha, beta: exponents of score and overlap.
            min_side: points are inside a box whose sides are enlarged to at least this length.
            chunk_pairs: maximum number of pairs that are computed at once.
        """
        check_range(KEY, {"TOPK": topk}, low=1)
        check_range(KEY, {"ALPHA": alpha, "BETA": beta, "MIN_SIDE": min_side})
        self.topk = topk
        self.alpha = alpha
        self.beta = beta
        self.min_side = min_side
        self.chunk_pairs = chunk_pairs

    @torch.no_grad()
    def __call__(
        self, *, logits: Tensor, boxes: Tensor, points: Tensor, objects: Objects
    ) -> Assignment:
        """
        Args:
            logits: (N, A, C) class logits.
            boxes: (N, A, 4) predicted boxes in pixels of the canvas. Their precision is that of the
                computation.
            points: (A, 2) in pixels of the canvas.
            objects: the ground truth.
        """
        number = objects.boxes.shape[0]  # G
        objects = objects._replace(boxes=objects.boxes.to(boxes.dtype))
        assigned = self._assigned_objects(logits, boxes, points, objects).flatten()  # (N * A,)
        flags = (assigned >= 0).to(torch.uint8)
        counts = flags.view(logits.shape[:2]).sum(dim=1).tolist()  # the step's synchronization
        positions = flags.argsort(descending=True, stable=True)[: sum(counts)]  # (P,) ascending
        image, point = positions // len(points), positions % len(points)
        chosen = assigned[positions]

        overlap = _overlap(objects.boxes[chosen], boxes[image, point])
        alignment = self._alignment(logits[image, point, objects.classes[chosen]], overlap)
        # The target score of an object's best aligned point is the overlap of its best box.
        best_overlap = overlap.new_zeros(number).scatter_reduce_(0, chosen, overlap, "amax")
        best_alignment = overlap.new_zeros(number).scatter_reduce_(0, chosen, alignment, "amax")
        score = alignment * best_overlap[chosen] / (best_alignment[chosen] + SCORE_EPS)
        return Assignment(image, point, chosen, score, counts)

    def _assigned_objects(
        self, logits: Tensor, boxes: Tensor, points: Tensor, objects: Objects
    ) -> Tensor:
        """The object that each point is assigned to (N, A), or -1."""
        coordinates = boxes.transpose(1, 2).contiguous()  # (N, 4, A): each side is contiguous
        count = objects.image.new_zeros(boxes.shape[:2])  # (N, A) objects that select a point
        selected_by = torch.full_like(count, -1)  # (N, A) one of them
        best = _BestOverlap(boxes.new_full(boxes.shape[:2], -1), torch.zeros_like(count))
        step = max(1, self.chunk_pairs // len(points))
        for first in range(0, len(objects.boxes), step):
            true_boxes, classes, image = (each[first : first + step] for each in objects[:3])
            index = torch.arange(first, first + len(image), device=image.device)[:, None]  # (g, 1)
            overlap = _overlap(true_boxes[:, None], coordinates[image].transpose(1, 2))  # (g, A)
            alignment = self._alignment(logits[image, :, classes], overlap)
            inside = _inside(points, _enlarged(true_boxes, self.min_side))

            point = (alignment * inside).topk(min(self.topk, len(points)), dim=1).indices  # (g, k)
            selected = inside.gather(1, point)  # False where fewer than k points are inside
            position = (image[:, None] * len(points) + point).flatten()
            count.view(-1).scatter_add_(0, position, selected.flatten().long())
            selected_by.view(-1).scatter_reduce_(
                0, position, torch.where(selected, index, -1).flatten(), "amax"
            )
            best = _update_best(best, overlap, image, index)
        return torch.where(count > 1, best.object, selected_by)

    def _alignment(self, logits: Tensor, overlap: Tensor) -> Tensor:
        return logits.to(overlap.dtype).sigmoid().pow(self.alpha) * overlap.pow(self.beta)


class _BestOverlap(NamedTuple):
    """The object with the largest overlap for each point, among the objects processed so far."""

    overlap: Tensor  # (N, A)
    object: Tensor  # (N, A) the first one on ties


def _update_best(best: _BestOverlap, overlap: Tensor, image: Tensor, index: Tensor) -> _BestOverlap:
    """Include g more objects.

    Args:
        best: the result for the objects before.
        overlap: (g, A).
        image: (g,) index of the objects' images.
        index: (g, 1) of the objects in the batch.
    """
    rows = image[:, None].expand_as(overlap)
    largest = best.overlap.scatter_reduce(0, rows, overlap, "amax")  # (N, A)
    no_object = torch.iinfo(index.dtype).max
    candidates = torch.where(overlap == largest[image], index, no_object)  # (g, A)
    first = torch.full_like(best.object, no_object).scatter_reduce_(0, rows, candidates, "amin")
    return _BestOverlap(largest, torch.where(largest > best.overlap, first, best.object))


def _overlap(true_boxes: Tensor, boxes: Tensor) -> Tensor:
    """Complete IoU clamped to at least 0; NaN boxes have an overlap of 0."""
    return complete_iou(true_boxes, boxes).nan_to_num_(0).clamp_(min=0)


def _enlarged(boxes: Tensor, min_side: float) -> Tensor:
    """Boxes (g, 4) around the same centers, with sides of at least a length, unless they are 0."""
    if min_side == 0:
        return boxes
    first, last = boxes.chunk(2, dim=1)
    sides = last - first
    has_area = (sides > 0).all(dim=1, keepdim=True)
    margin = (min_side - sides).clamp(min=0) / 2 * has_area  # (g, 2)
    return torch.cat([first - margin, last + margin], dim=1)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Mask (g, A) of the points (A, 2) inside boxes (g, 4)."""
    x, y = points.unbind(dim=1)
    left, top, right, bottom = boxes[:, :, None].unbind(dim=1)  # (g, 1) each
    horizontal = torch.minimum(x - left, right - x)
    vertical = torch.minimum(y - top, bottom - y)
    return torch.minimum(horizontal, vertical) > INSIDE
