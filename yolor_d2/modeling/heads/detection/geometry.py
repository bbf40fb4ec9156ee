"""Points of feature maps, and boxes as distances from points to sides."""

from collections.abc import Sequence

import torch
from torch import Tensor


def level_points(
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Centers of all cells, map after map, each row by row.

    Args:
        sizes: height and width of each map.
        strides: side of a cell of each map, in pixels of the canvas.
        dtype, device: of the results.

    Returns:
        (A, 2) x and y in pixels of the canvas, and (A,) strides.
    """
    points, point_strides = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = (torch.arange(height, dtype=dtype, device=device) + 0.5) * stride
        x = (torch.arange(width, dtype=dtype, device=device) + 0.5) * stride
        rows, columns = torch.meshgrid(y, x, indexing="ij")  # (height, width) both
        points.append(torch.stack([columns, rows], dim=-1).flatten(0, 1))
        point_strides.append(torch.full((height * width,), stride, dtype=dtype, device=device))
    return torch.cat(points), torch.cat(point_strides)


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes (..., 4) x0 y0 x1 y1 from points (..., 2) and distances (..., 4) left, top, ..."""
    left_top, right_bottom = distances.chunk(2, dim=-1)
    return torch.cat([points - left_top, points + right_bottom], dim=-1)


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances (..., 4) from points to left, top, right, bottom; negative outside the box."""
    first, last = boxes.chunk(2, dim=-1)
    return torch.cat([points - first, last - points], dim=-1)


def expected_distances(bins: Tensor) -> Tensor:
    """Means of the sides' distributions over 0 .. R - 1.

    Args:
        bins: (..., 4 * R) logits: left, top, right, bottom.

    Returns:
        (..., 4) in cells.
    """
    probabilities = bins.unflatten(-1, (4, -1)).softmax(dim=-1)  # (..., 4, R)
    values = torch.arange(probabilities.shape[-1], dtype=bins.dtype, device=bins.device)
    return (probabilities * values).sum(dim=-1)
