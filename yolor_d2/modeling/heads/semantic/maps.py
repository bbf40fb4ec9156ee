"""Resampling semantic logits from the canvas to the pixels of the image."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ....letterbox import Content

# Size of a tile of the image that is processed at once: 6 MB with 171 classes.
TILE_ROWS, TILE_COLUMNS = 32, 256


def labels_at(
    logits: Tensor, content: Content, *, canvas: tuple[int, int], height: int, width: int
) -> Tensor:
    """Labels of the pixels of an image: the classes with the largest logits.

    Args:
        logits: (S, h, w), of any stride.
        content: position of the image on the canvas.
        canvas: height and width of the canvas.
        height, width: size of the image.

    Returns:
        (height, width), uint8 for up to 256 classes, else int64.
    """
    labels = _new_labels(logits, height, width)  # (height, width)
    for rows, columns, values in _tiles(logits, content, canvas, (height, width)):
        # On CPUs, max is several times as fast as argmax.
        labels[rows, columns] = values.max(dim=1).indices
    return labels


def labels_with_probabilities_at(
    logits: Tensor, content: Content, *, canvas: tuple[int, int], height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Labels as of `labels_at`, and their softmax probabilities, float (height, width)."""
    labels = _new_labels(logits, height, width)  # (height, width)
    probabilities = torch.empty(labels.shape, device=logits.device)  # (height, width)
    for rows, columns, values in _tiles(logits, content, canvas, (height, width)):
        largest, labels[rows, columns] = values.max(dim=1)
        probabilities[rows, columns] = (largest - values.logsumexp(dim=1)).exp()
    return labels, probabilities


def _new_labels(logits: Tensor, height: int, width: int) -> Tensor:
    dtype = torch.uint8 if len(logits) <= 256 else torch.int64
    return torch.empty(height, width, dtype=dtype, device=logits.device)


def logits_at(
    logits: Tensor, content: Content, *, canvas: tuple[int, int], height: int, width: int
) -> Tensor:
    """Logits (S, height, width) of the pixels of an image; arguments as of `labels_at`."""
    at_image = logits.new_empty(len(logits), height, width)  # (S, height, width)
    for rows, columns, values in _tiles(logits, content, canvas, (height, width)):
        at_image[:, rows, columns] = values.transpose(0, 1)
    return at_image


def _tiles(
    logits: Tensor, content: Content, canvas: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and logits (rows, S, columns) of the image, tile by tile."""
    dtype = torch.float32 if logits.element_size() < 4 else logits.dtype
    (canvas_height, canvas_width), (_, h, w) = canvas, logits.shape
    cell_height, cell_width = canvas_height / h, canvas_width / w
    down = _weights(size[0], h, content.top / cell_height, content.height / cell_height)
    across = _weights(size[1], w, content.left / cell_width, content.width / cell_width)
    row_tiles = list(_cuts(down, TILE_ROWS))
    column_tiles = list(_cuts(across, TILE_COLUMNS))
    down, across = (weights.to(logits.device, dtype) for weights in (down, across))
    for columns, cell_columns in column_tiles:
        for rows, cell_rows in row_tiles:
            cells = logits[:, cell_rows, cell_columns].transpose(0, 1).to(dtype)
            with torch.autocast(logits.device.type, enabled=False):
                wide = cells @ across[columns, cell_columns].T  # (cells, S, columns)
                values = down[rows, cell_rows] @ wide.flatten(1)
            yield rows, columns, values.view(len(values), len(logits), -1)


def _weights(pixels: int, cells: int, start: float, length: float) -> Tensor:
    """Linear interpolation from cells to pixels along one axis, as a matrix.

    Args:
        pixels: number of pixels of the image.
        cells: number of cells of the canvas.
        start, length: position and size of the image on the canvas, in cells.

    Returns:
        (pixels, cells). Logits in the padding are not used: only cells whose centers lie in the
        image are interpolated, and their outermost values extend to its border.
    """
    first = math.ceil(start - 0.5)
    last = math.ceil(start + length - 0.5) - 1
    if last < first:  # the image is so narrow that it contains no center of a cell
        first = last = int(start + length / 2)
    centers = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (length / pixels) + start
    positions = (centers - 0.5).clamp(first, last)  # (pixels,)
    return (1 - (positions[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def _cuts(weights: Tensor, size: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of `size` pixels, each with the range of cells that it is interpolated from."""
    for start in range(0, len(weights), size):
        pixels = slice(start, start + size)
        used = weights[pixels].any(dim=0).nonzero()
        yield pixels, slice(int(used[0]), int(used[-1]) + 1)
