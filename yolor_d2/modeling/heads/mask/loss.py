"""How far predicted masks are from the true ones, in memory that does not grow with the objects.

A crowded batch has thousands of points to learn and each mask has tens of thousands of cells.
Logits are therefore never kept: each chunk of masks gives its share of the loss and of the gradient
at once.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...objects import Assignment, GroundTruthMasks
from ...reduce import over_processes

# Logits at a time, of which about six tensors live at once. CPUs like to stay near their caches.
CHUNK_CELLS, CHUNK_CELLS_CPU = 2**24, 2**22
CHUNK_ROUNDING = 32  # points of an image; fewer chunks for a little padding


class _Positives(NamedTuple):
    """What P points learn, image after image; images with most points come first in what is (N,).

    The points of the i-th of them are the rows from starts[i] on.
    """

    boxes: Tensor  # (P, 4) true boxes in cells
    weights: Tensor  # (P,) of each cell's loss
    objects: Tensor  # (P,) index among the G objects
    masks: Tensor  # (G, h, w)
    starts: Tensor  # (N,)
    counts: Tensor  # (N,)
    chunks: list["_Chunk"]


class _Chunk(NamedTuple):
    """Points that are computed together: `size` of each of the first `images`, from `first` on."""

    images: int
    first: int
    size: int


def mask_loss(
    coefficients: Tensor,
    prototypes: Tensor,
    *,
    boxes: Tensor,
    masks: GroundTruthMasks,
    assignment: Assignment,
    stride: int,
) -> Tensor:
    """Mean over images with known masks of the mean over their points of the BCE within the box.

    A point's loss is the sum over the cells in its object's box, divided by the box's area. A box
    smaller than a pixel counts as one.

    Args:
        coefficients: (N, A, K).
        prototypes: (N, K, h, w).
        boxes: (G, 4) true boxes in pixels of the canvas.
        masks: the true masks. Other resolutions than (h, w) are resampled.
        assignment: which point learns which object.
        stride: pixels per cell of the prototypes.
    """
    dtype = torch.promote_types(prototypes.dtype, torch.float32)
    device, grid = prototypes.device, prototypes.shape[-2:]
    counts = assignment.counts
    starts = [0, *accumulate(counts)]
    order = sorted(range(len(counts)), key=counts.__getitem__, reverse=True)
    sorted_counts = [counts[i] for i in order]
    table = torch.tensor([counts, order, [starts[i] for i in order], sorted_counts])
    per_image, places, sorted_starts, per_place = table.to(device, non_blocking=True)  # (N,) each

    known = masks.known.to(dtype)
    images, processes = over_processes(known.sum())
    share = known * processes / (per_image.clamp(min=1) * images.clamp(min=1))  # (N,)
    cells = boxes.to(dtype)[assignment.object] / stride  # (P, 4)
    area = (cells[:, 2:] - cells[:, :2]).prod(dim=1).clamp(min=1 / stride**2)  # (P,)
    room = (CHUNK_CELLS_CPU if device.type == "cpu" else CHUNK_CELLS) // grid.numel()
    positives = _Positives(
        boxes=cells,
        weights=share[assignment.image] / area,
        objects=assignment.object,
        masks=_resampled(masks.masks, grid),
        starts=sorted_starts,
        counts=per_place,
        chunks=list(_chunks(sorted_counts, room)),
    )
    picked = coefficients[assignment.image, assignment.point].to(dtype)  # (P, K)
    by_count = prototypes.index_select(0, places).to(dtype)  # (N, K, h, w)
    if not torch.is_grad_enabled():
        return _evaluate(picked, by_count, positives, gradients=False)[0]
    return _CroppedBCE.apply(picked, by_count, positives)


def _resampled(masks: Tensor, size: torch.Size) -> Tensor:
    """Masks as bytes (G, h, w); each cell takes the value of one pixel."""
    planes = masks.to(torch.uint8)
    if planes.shape[-2:] == size:
        return planes
    return F.interpolate(planes[None], size=tuple(size), mode="nearest")[0]


def _chunks(counts: list[int], room: int) -> Iterator[_Chunk]:
    """Cut the points of images, given how many each has (descending), into chunks of `room`."""
    first = 0
    while any(count > first for count in counts):
        images = sum(count > first for count in counts)
        remaining = counts[images - 1] - first  # until the next image has no more
        rounded = -(-remaining // CHUNK_ROUNDING) * CHUNK_ROUNDING
        size = min(rounded, max(1, room // images), counts[0] - first)
        yield _Chunk(images, first, size)
        first += size


class _CroppedBCE(torch.autograd.Function):
    """The loss; its gradients are made on the way, so that no logit is kept for them."""

    @staticmethod
    def forward(
        ctx: Any, coefficients: Tensor, prototypes: Tensor, positives: _Positives
    ) -> Tensor:
        loss, *gradients = _evaluate(coefficients, prototypes, positives, gradients=True)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        of_coefficients, of_prototypes = ctx.saved_tensors
        return of_coefficients * grad, of_prototypes * grad, None


def _evaluate(
    coefficients: Tensor, prototypes: Tensor, positives: _Positives, *, gradients: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients by coefficients (P, K) and prototypes (N, K, h, w); else zeros."""
    flat = prototypes.flatten(2)  # (N, K, h * w)
    loss = flat.new_zeros(())
    of_coefficients, of_prototypes = torch.zeros_like(coefficients), torch.zeros_like(flat)
    with torch.autocast(flat.device.type, enabled=False):
        for chunk in positives.chunks:
            rows, valid = _rows(chunk, positives)  # (n, c) both
            picked, there = coefficients[rows], flat[: chunk.images]  # (n, c, K), (n, K, h * w)
            logits = torch.bmm(picked, there).unflatten(2, prototypes.shape[2:])  # (n, c, h, w)
            masks = positives.masks[positives.objects[rows]]  # (n, c, h, w)
            weights = _cell_weights(rows, valid, positives)  # (n, c, h, w)
            bce = F.binary_cross_entropy_with_logits(logits, masks.to(flat), reduction="none")
            loss += bce.mul_(weights).sum()
            if gradients:
                slope = logits.sigmoid_().sub_(masks).mul_(weights).flatten(2)  # (n, c, h * w)
                steps = torch.bmm(slope, there.transpose(1, 2))  # (n, c, K)
                of_coefficients.index_add_(0, rows.flatten(), steps.flatten(0, 1))
                of_prototypes[: chunk.images].baddbmm_(picked.transpose(1, 2), slope)
    return loss, of_coefficients, of_prototypes.view_as(prototypes)


def _rows(chunk: _Chunk, positives: _Positives) -> tuple[Tensor, Tensor]:
    """Row among the P points of each place in a chunk, and whether the place is taken."""
    places = torch.arange(chunk.first, chunk.first + chunk.size, device=positives.starts.device)
    valid = places < positives.counts[: chunk.images, None]
    return torch.where(valid, positives.starts[: chunk.images, None] + places, 0), valid


def _cell_weights(rows: Tensor, valid: Tensor, positives: _Positives) -> Tensor:
    """A point's weight in the cells whose upper left corners are in its box, elsewhere 0."""
    height, width = positives.masks.shape[-2:]
    left, top, right, bottom = positives.boxes[rows].unsqueeze(-2).unbind(-1)  # (n, c, 1) each
    x = torch.arange(width, device=left.device)
    y = torch.arange(height, device=left.device)
    inside_x = (x >= left) & (x < right)  # (n, c, w)
    inside_y = (y >= top) & (y < bottom)  # (n, c, h)
    weighted_y = inside_y * (positives.weights[rows] * valid).unsqueeze(-1)  # (n, c, h)
    return weighted_y.unsqueeze(-1) * inside_x.unsqueeze(-2)
