"""The objects of each image that are encoded as visual tokens."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...layers.functional import pick
from ...objects import Objects

MIN_SCORE = 0.1
CANDIDATES = 10  # predictions that are compared for each object that is kept
SAME_OBJECT = 0.5  # IoU above which two boxes are duplicates


class Regions(NamedTuple):
    """At most M objects of each of N images."""

    boxes: Tensor  # (N, M, 4) x0 y0 x1 y1 in pixels of the canvas
    scores: Tensor  # (N, M, C) of the classes, in 0..1
    padding: Tensor  # (N, M) bool, True where there is no object


@torch.no_grad()
def found_regions(logits: Tensor, boxes: Tensor, *, count: int) -> Regions:
    """The most confident objects among the A predictions of each of N images, best first.

    An object is dropped if its box overlaps that of a more confident one, even if the latter is
    dropped too: one comparison of all pairs instead of a loop.

    Args:
        logits: (N, A, C) of the classes.
        boxes: (N, A, 4).
        count: M, unless A is smaller.
    """
    scores, points = top(logits.amax(dim=2).sigmoid(), CANDIDATES * count)  # (N, B) each
    overlaps = _overlaps(pick(boxes, points)).triu(diagonal=1)  # (N, B, B) row before column
    dropped = (overlaps > SAME_OBJECT).any(dim=1) | (scores < MIN_SCORE)  # (N, B)
    scores, best = top(scores.masked_fill(dropped, -1), count)  # (N, M) each
    points, padding = points.gather(1, best), scores < 0
    return Regions(
        boxes=pick(boxes, points).masked_fill(padding[:, :, None], 0),
        scores=pick(logits, points).sigmoid(),
        padding=padding,
    )


def true_regions(objects: Objects, *, count: int, num_classes: int) -> Regions:
    """The first M ground-truth objects of each of N images, with scores 0 and 1.

    M is `count`, or less if no image has that many: padding costs as much as objects.
    """
    if objects.most is not None:
        count = min(count, max(objects.most, 1))
    images, device = len(objects.known), objects.image.device
    first = torch.searchsorted(objects.image, torch.arange(images, device=device))  # (N,)
    number = torch.arange(len(objects.image), device=device) - first[objects.image]  # (G,)
    # One extra row for each image collects the objects beyond M.
    place = objects.image * (count + 1) + number.clamp(max=count)  # (G,)

    def lay_out(values: Tensor, empty: float) -> Tensor:
        rows = values.new_full((images * (count + 1), *values.shape[1:]), empty)
        return rows.index_copy(0, place, values).unflatten(0, (images, -1))[:, :count]

    scores = F.one_hot(objects.classes, num_classes).to(objects.boxes.dtype)
    padding = torch.zeros_like(objects.image, dtype=torch.bool)
    return Regions(lay_out(objects.boxes, 0), lay_out(scores, 0), lay_out(padding, True))


def top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of each row, or all if there are fewer; and their columns."""
    width = values.shape[1]
    # Under torch.jit.trace a size is a tensor, and min() would turn it into a constant.
    k = width.clamp(max=count) if isinstance(width, Tensor) else min(count, width)
    top, columns = values.topk(k)
    return top, columns


def _overlaps(boxes: Tensor) -> Tensor:
    """IoU of all pairs of boxes: (N, B, 4) -> (N, B, B)."""
    first, last = boxes.chunk(2, dim=2)
    low = torch.maximum(first[:, :, None], first[:, None])
    high = torch.minimum(last[:, :, None], last[:, None])
    shared = (high - low).clamp(min=0).prod(dim=3)
    area = (last - first).clamp(min=0).prod(dim=2)  # (N, B)
    return shared / (area[:, :, None] + area[:, None] - shared).clamp(min=1e-6)
