"""Mask loss in memory that does not grow with the number of objects.

A crowded batch has thousands of assigned points, and each mask tens of thousands of cells. Logits
are therefore not kept for the backward pass: the loss and the gradient are accumulated chunk by
chunk in the forward pass.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...layers.functional import cells_inside
from ...objects import Assignment, GroundTruthMasks
from ...reduce import over_processes

# Maximum number of logits of a chunk; about six tensors of this size are alive at once. On CPUs,
# small chunks fit into the caches.
CHUNK_CELLS, CHUNK_CELLS_CPU = 2**24, 2**22
CHUNK_ROUNDING = 32  # points per image are rounded up to this: some padding, but fewer chunks


class _Positives(NamedTuple):
    """Targets of the P assigned points, image after image.

    `starts` and `counts` list images by descending number of points.
    """

    boxes: Tensor  # (P, 4) true boxes in cells
    weights: Tensor  # (P,) of the loss of each cell
    objects: Tensor  # (P,) index among the G objects
    masks: Tensor  # (G, h, w)
    starts: Tensor  # (N,) index of an image's first point
    counts: Tensor  # (N,) number of an image's points
    chunks: list["_Chunk"]


class _Chunk(NamedTuple):
    """Points that are processed together: `size` points from `first` on, of the first `images`."""

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
    """Binary cross-entropy inside the boxes of the objects.

    The loss of a point is the sum over the cells in the box of its object, divided by the area of
    the box, or by one pixel for smaller boxes. It is averaged over the points of an image, then
    over images with known masks.

    Args:
        coefficients: (N, A, K).
        prototypes: (N, K, h, w).
        boxes: (G, 4) true boxes in pixels of the canvas.
        masks: true masks; resampled if their resolution is not (h, w).
        assignment: objects of points.
        stride: pixels per cell of the prototypes.
    """
    dtype = torch.promote_types(prototypes.dtype, torch.float32)
    device, grid = prototypes.device, prototypes.shape[-2:]
    counts = assignment.counts
    starts = [0, *accumulate(counts)]
    order = sorted(range(len(counts)), key=counts.__getitem__, reverse=True)
    sorted_counts = [counts[i] for i in order]
    table = torch.tensor([counts, order, [starts[i] for i in order], sorted_counts])
    table = table.to(device, non_blocking=True)
    per_image, image_order, sorted_starts, counts_in_order = table  # (N,) each

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
        counts=counts_in_order,
        chunks=list(_chunks(sorted_counts, room)),
    )
    selected = coefficients[assignment.image, assignment.point].to(dtype)  # (P, K)
    by_count = prototypes.index_select(0, image_order).to(dtype)  # (N, K, h, w)
    if not torch.is_grad_enabled():
        return _evaluate(selected, by_count, positives, gradients=False)[0]
    return _CroppedBCE.apply(selected, by_count, positives)


def _resampled(masks: Tensor, size: torch.Size) -> Tensor:
    """Masks as bytes (G, h, w), by nearest-neighbor interpolation."""
    planes = masks.to(torch.uint8)
    if planes.shape[-2:] == size:
        return planes
    if not len(planes):  # interpolation refuses empty tensors
        return planes.new_zeros(0, *size)
    return F.interpolate(planes[None], size=tuple(size), mode="nearest")[0]


def _chunks(counts: list[int], room: int) -> Iterator[_Chunk]:
    """Split the points of images into chunks of at most `room` points, or of one per image.

    Args:
        counts: numbers of points of the images, descending.
        room: maximum number of points of a chunk.
    """
    first = 0
    while any(count > first for count in counts):
        images = sum(count > first for count in counts)
        remaining = counts[images - 1] - first  # points of the image with the fewest
        rounded = -(-remaining // CHUNK_ROUNDING) * CHUNK_ROUNDING
        size = min(rounded, max(1, room // images), counts[0] - first)
        yield _Chunk(images, first, size)
        first += size


class _CroppedBCE(torch.autograd.Function):
    """The loss; its gradients are computed in the forward pass, so that no logits are kept."""

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
        coefficient_grad, prototype_grad = ctx.saved_tensors
        return coefficient_grad * grad, prototype_grad * grad, None


def _evaluate(
    coefficients: Tensor, prototypes: Tensor, positives: _Positives, *, gradients: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients for coefficients (P, K) and prototypes (N, K, h, w).

    Gradients are zeros if `gradients` is False.
    """
    flat = prototypes.flatten(2)  # (N, K, h * w)
    loss = flat.new_zeros(())
    coefficient_grad, prototype_grad = torch.zeros_like(coefficients), torch.zeros_like(flat)
    with torch.autocast(flat.device.type, enabled=False):
        for chunk in positives.chunks:
            rows, valid = _rows(chunk, positives)  # (n, c) both
            selected, grids = coefficients[rows], flat[: chunk.images]  # (n, c, K), (n, K, h * w)
            logits = torch.bmm(selected, grids).unflatten(2, prototypes.shape[2:])  # (n, c, h, w)
            masks = positives.masks[positives.objects[rows]]  # (n, c, h, w)
            weights = _cell_weights(rows, valid, positives)  # (n, c, h, w)
            bce = F.binary_cross_entropy_with_logits(logits, masks.to(flat), reduction="none")
            loss += bce.mul_(weights).sum()
            if gradients:
                logit_grad = logits.sigmoid_().sub_(masks).mul_(weights).flatten(2)  # (n, c, h * w)
                selected_grad = torch.bmm(logit_grad, grids.transpose(1, 2))  # (n, c, K)
                coefficient_grad.index_add_(0, rows.flatten(), selected_grad.flatten(0, 1))
                prototype_grad[: chunk.images].baddbmm_(selected.transpose(1, 2), logit_grad)
    return loss, coefficient_grad, prototype_grad.view_as(prototypes)


def _rows(chunk: _Chunk, positives: _Positives) -> tuple[Tensor, Tensor]:
    """Indices (n, c) of a chunk's points among the P points, and which are not padding."""
    offsets = torch.arange(chunk.first, chunk.first + chunk.size, device=positives.starts.device)
    valid = offsets < positives.counts[: chunk.images, None]
    return torch.where(valid, positives.starts[: chunk.images, None] + offsets, 0), valid


def _cell_weights(rows: Tensor, valid: Tensor, positives: _Positives) -> Tensor:
    """Weights of cells: that of the point if the cell's top left corner is in its box, else 0."""
    height, width = positives.masks.shape[-2:]
    inside_y, inside_x = cells_inside(positives.boxes[rows], height=height, width=width)
    weighted_y = inside_y * (positives.weights[rows] * valid).unsqueeze(-1)  # (n, c, h)
    return weighted_y.unsqueeze(-1) * inside_x.unsqueeze(-2)
