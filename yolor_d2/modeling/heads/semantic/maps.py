"""From logits on the network's canvas to what each pixel of the image is."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ....letterbox import Content

# Pixels of the image that are worked on at a time: with 171 classes 6 MB.
TILE_ROWS, TILE_COLUMNS = 32, 256


def labels_at(
    logits: Tensor, content: Content, *, canvas: tuple[int, int], height: int, width: int
) -> Tensor:
    """The best class of each pixel of an image.

    Args:
        logits: (S, h, w), of any stride.
        content: where the image lies on the canvas.
        canvas: height and width.
        height, width: of the image.

    Returns:
        (height, width), uint8 if that can hold the classes.
    """
    dtype = torch.uint8 if len(logits) <= 256 else torch.int64
    labels = torch.empty(height, width, dtype=dtype, device=logits.device)  # (height, width)
    for rows, columns, values in _tiles(logits, content, canvas, (height, width)):
        # max rather than argmax: several times as fast on a CPU.
        labels[rows, columns] = values.max(dim=1).indices
    return labels


def logits_at(
    logits: Tensor, content: Content, *, canvas: tuple[int, int], height: int, width: int
) -> Tensor:
    """The logits (S, height, width) of each pixel of an image; arguments as of `labels_at`."""
    at_image = logits.new_empty(len(logits), height, width)  # (S, height, width)
    for rows, columns, values in _tiles(logits, content, canvas, (height, width)):
        at_image[:, rows, columns] = values.transpose(0, 1)
    return at_image


def _tiles(
    logits: Tensor, content: Content, canvas: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Logits (rows, S, columns) of one tile of the image after the other."""
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
    """How much of each cell is in each pixel along one axis, by linear interpolation.

    Args:
        pixels: number of the image's pixels.
        cells: number of the canvas's cells.
        start, length: of the image on the canvas, in cells.

    Returns:
        (pixels, cells). What the network says of the padding stays out: beyond the outermost cells
        whose centres lie in the image, their values go on.
    """
    first = math.ceil(start - 0.5)
    last = math.ceil(start + length - 0.5) - 1
    if last < first:  # a sliver of an image, without the centre of a cell
        first = last = int(start + length / 2)
    centres = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (length / pixels) + start
    places = (centres - 0.5).clamp(first, last)  # (pixels,)
    return (1 - (places[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def _cuts(weights: Tensor, size: int) -> Iterator[tuple[slice, slice]]:
    """Runs of `size` pixels, each with the run of cells that it is made of."""
    for start in range(0, len(weights), size):
        pixels = slice(start, start + size)
        used = weights[pixels].any(dim=0).nonzero()
        yield pixels, slice(int(used[0]), int(used[-1]) + 1)
