"""Which points learn which object: those that already predict it best."""

from typing import NamedTuple

import torch
from torch import Tensor

from ....checks import check_range
from ...objects import Assignment, Objects
from .losses import complete_iou

KEY = "MODEL.DETECTION_HEAD.ASSIGN"
INSIDE = 1e-9  # pixels that a point must be away from all sides of a box to be inside it
SCORE_EPS = 1e-9


class TaskAlignedAssigner:
    """Task-aligned assignment.

    A point's alignment with an object is score^alpha * overlap^beta: of its prediction of the
    object's class, and of its box's complete IoU. Of the points inside an object, the `topk` best
    aligned learn it. A point that several objects want learns the one of its image that it overlaps
    most.

    An object is compared with the points of its own image only, and no more than `chunk_pairs`
    pairs of an object and a point at once (but at least one object): with what that takes, 40
    numbers a pair or 170 MB in float32, crowds of any size can be assigned.
    """

    def __init__(
        self,
        *,
        topk: int = 10,
        alpha: float = 0.5,
        beta: float = 6.0,
        chunk_pairs: int = 2**20,
    ) -> None:
        check_range(KEY, {"TOPK": topk}, low=1)
        check_range(KEY, {"ALPHA": alpha, "BETA": beta})
        self.topk = topk
        self.alpha = alpha
        self.beta = beta
        self.chunk_pairs = chunk_pairs

    @torch.no_grad()
    def __call__(
        self, *, logits: Tensor, boxes: Tensor, points: Tensor, objects: Objects
    ) -> Assignment:
        """
        Args:
            logits: (N, A, C) of the classes.
            boxes: (N, A, 4) predicted ones, in pixels of the canvas; in their precision it is
                computed.
            points: (A, 2) in pixels of the canvas.
            objects: what there is.
        """
        number = objects.boxes.shape[0]  # G
        objects = objects._replace(boxes=objects.boxes.to(boxes.dtype))
        learnt = self._learnt_objects(logits, boxes, points, objects).flatten()  # (N * A,)
        flags = (learnt >= 0).to(torch.uint8)
        counts = flags.view(logits.shape[:2]).sum(dim=1).tolist()  # the synchronisation
        places = flags.argsort(descending=True, stable=True)[: sum(counts)]  # (P,) ascending
        image, point = places // len(points), places % len(points)
        chosen = learnt[places]

        overlap = _overlap(objects.boxes[chosen], boxes[image, point])
        alignment = self._alignment(logits[image, point, objects.classes[chosen]], overlap)
        # An object's best aligned point is told to be as sure as its best box is good.
        best_overlap = overlap.new_zeros(number).scatter_reduce_(0, chosen, overlap, "amax")
        best_alignment = overlap.new_zeros(number).scatter_reduce_(0, chosen, alignment, "amax")
        score = alignment * best_overlap[chosen] / (best_alignment[chosen] + SCORE_EPS)
        return Assignment(image, point, chosen, score, counts)

    def _learnt_objects(
        self, logits: Tensor, boxes: Tensor, points: Tensor, objects: Objects
    ) -> Tensor:
        """The object that each point learns (N, A), or -1."""
        coordinates = boxes.transpose(1, 2).contiguous()  # (N, 4, A): quick to go through by side
        claims = objects.image.new_zeros(boxes.shape[:2])  # (N, A) how many objects want a point
        claimant = torch.full_like(claims, -1)  # one that does
        best = _Best(boxes.new_full(boxes.shape[:2], -1), torch.zeros_like(claims))
        step = max(1, self.chunk_pairs // len(points))
        for first in range(0, len(objects.boxes), step):
            true_boxes, classes, image = (each[first : first + step] for each in objects[:3])
            names = torch.arange(first, first + len(image), device=image.device)[:, None]  # (g, 1)
            overlap = _overlap(true_boxes[:, None], coordinates[image].transpose(1, 2))  # (g, A)
            alignment = self._alignment(logits[image, :, classes], overlap)
            inside = _inside(points, true_boxes)

            point = (alignment * inside).topk(min(self.topk, len(points)), dim=1).indices  # (g, k)
            wanted = inside.gather(1, point)  # not where fewer than k points are inside
            place = (image[:, None] * len(points) + point).flatten()
            claims.view(-1).scatter_add_(0, place, wanted.flatten().long())
            claimant.view(-1).scatter_reduce_(
                0, place, torch.where(wanted, names, -1).flatten(), "amax"
            )
            best = _better(best, overlap, image, names)
        return torch.where(claims > 1, best.object, claimant)

    def _alignment(self, logits: Tensor, overlap: Tensor) -> Tensor:
        return logits.to(overlap.dtype).sigmoid().pow(self.alpha) * overlap.pow(self.beta)


class _Best(NamedTuple):
    """What the points of N images overlap most, of all objects so far."""

    overlap: Tensor  # (N, A)
    object: Tensor  # (N, A) the first that has this overlap


def _better(best: _Best, overlap: Tensor, image: Tensor, names: Tensor) -> _Best:
    """The best of what there was and of more objects: overlap (g, A), image (g,), names (g, 1)."""
    rows = image[:, None].expand_as(overlap)
    largest = best.overlap.scatter_reduce(0, rows, overlap, "amax")  # (N, A)
    nobody = torch.iinfo(names.dtype).max
    having_it = torch.where(overlap == largest[image], names, nobody)  # (g, A)
    first = torch.full_like(best.object, nobody).scatter_reduce_(0, rows, having_it, "amin")
    return _Best(largest, torch.where(largest > best.overlap, first, best.object))


def _overlap(true_boxes: Tensor, boxes: Tensor) -> Tensor:
    """Complete IoU, no less than 0; a box that is not a number overlaps nothing."""
    return complete_iou(true_boxes, boxes).nan_to_num_(0).clamp_(min=0)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (A, 2) are inside boxes (g, 4): (g, A)."""
    x, y = points.unbind(dim=1)
    left, top, right, bottom = boxes[:, :, None].unbind(dim=1)  # (g, 1) each
    across = torch.minimum(x - left, right - x)
    down = torch.minimum(y - top, bottom - y)
    return torch.minimum(across, down) > INSIDE
