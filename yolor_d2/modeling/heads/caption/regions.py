"""The few objects of each image that captions are told of."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...objects import Objects

MIN_SCORE = 0.1  # of an object to speak of
CANDIDATES = 10  # points that are compared for each object
SAME_OBJECT = 0.5  # overlap of two boxes


class Regions(NamedTuple):
    """At most M objects of each of N images."""

    boxes: Tensor  # (N, M, 4) x0 y0 x1 y1 in pixels of the canvas
    scores: Tensor  # (N, M, C) of the classes, in 0..1
    padding: Tensor  # (N, M) bool, True where there is no object


@torch.no_grad()
def found_regions(logits: Tensor, boxes: Tensor, *, count: int) -> Regions:
    """The objects that the A points of N images find, the surest first.

    An object is left out where its box overlaps with that of a surer one, even if that one is left
    out as well: one comparison for all instead of one after the other.

    Args:
        logits: (N, A, C) of the classes.
        boxes: (N, A, 4).
        count: M, unless there are fewer points.
    """
    scores, points = _largest(logits.amax(dim=2).sigmoid(), CANDIDATES * count)  # (N, B) each
    overlaps = _overlaps(_pick(boxes, points)).triu(diagonal=1)  # (N, B, B) of surer and less sure
    left_out = (overlaps > SAME_OBJECT).any(dim=1) | (scores < MIN_SCORE)  # (N, B)
    scores, best = _largest(scores.masked_fill(left_out, -1), count)  # (N, M) each
    points, padding = points.gather(1, best), scores < 0
    return Regions(
        boxes=_pick(boxes, points).masked_fill(padding[:, :, None], 0),
        scores=_pick(logits, points).sigmoid(),
        padding=padding,
    )


def true_regions(objects: Objects, *, count: int, num_classes: int) -> Regions:
    """The true objects of N images as if they were found; what is more than M is left out."""
    images, device = len(objects.known), objects.image.device
    first = torch.searchsorted(objects.image, torch.arange(images, device=device))  # (N,)
    number = torch.arange(len(objects.image), device=device) - first[objects.image]  # (G,)
    # One row too many for each image, for those that are left out.
    place = objects.image * (count + 1) + number.clamp(max=count)  # (G,)

    def lay_out(values: Tensor, nothing: float) -> Tensor:
        rows = values.new_full((images * (count + 1), *values.shape[1:]), nothing)
        return rows.index_copy(0, place, values).unflatten(0, (images, -1))[:, :count]

    scores = F.one_hot(objects.classes, num_classes).to(objects.boxes.dtype)
    there = torch.zeros_like(objects.image, dtype=torch.bool)
    return Regions(lay_out(objects.boxes, 0), lay_out(scores, 0), lay_out(there, True))


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of each row, or all if there are fewer; and their columns."""
    # The width of a slice instead of min(): a constant to torch.jit.trace, which would fix it.
    largest, columns = values.topk(values[:, :count].shape[1])
    return largest, columns


def _pick(values: Tensor, points: Tensor) -> Tensor:
    """Of values (N, A, X) those of points (N, M): (N, M, X)."""
    return values.gather(1, points[:, :, None].expand(-1, -1, values.shape[2]))


def _overlaps(boxes: Tensor) -> Tensor:
    """Intersection over union of each box with each: (N, B, 4) -> (N, B, B)."""
    first, last = boxes.chunk(2, dim=2)
    low = torch.maximum(first[:, :, None], first[:, None])
    high = torch.minimum(last[:, :, None], last[:, None])
    shared = (high - low).clamp(min=0).prod(dim=3)
    area = (last - first).clamp(min=0).prod(dim=2)  # (N, B)
    return shared / (area[:, :, None] + area[:, None] - shared).clamp(min=1e-6)
