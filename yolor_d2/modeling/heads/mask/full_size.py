"""Masks at the size of an image, from prototypes on a coarse grid.

An object costs what the window around its box costs: a small one on a huge image is cheap.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

from ....letterbox import Content
from ....structures import RLEMasks

RESOLUTIONS = ("input", "fast")
FORMATS = ("dense", "rle")
CHUNK_CELLS = 2**23  # of the grid, for so many objects at a time


class _Taps(NamedTuple):
    """Linear resizing of an axis: the two inputs that each of n outputs lies between."""

    lower: Tensor  # (n,)
    upper: Tensor  # (n,)
    weight: Tensor  # (n,) of upper

    @classmethod
    def between(cls, positions: Tensor, first: int, end: int) -> "_Taps":
        """Outputs at these positions among the inputs `first` to `end` - 1."""
        positions = positions.clamp(first, end - 1)
        lower = positions.floor()
        upper = (lower + 1).clamp(max=end - 1)
        return cls(lower.long(), upper.long(), (positions - lower).float())

    def to(self, device: torch.device) -> "_Taps":
        return _Taps(*(values.to(device, non_blocking=True) for values in self))

    def cut(self, outputs: slice, *, first: int = 0) -> "_Taps":
        """Of some outputs, from inputs of which index `first` is the first that is there."""
        lower, upper, weight = (values[outputs] for values in self)
        return _Taps(lower - first, upper - first, weight)


class _Axis(NamedTuple):
    """One axis of the way of D masks from the grid to the image.

    They are cropped to their boxes on the way: on the grid, or on the canvas after `enter`.
    """

    enter: _Taps  # grid -> canvas
    crops: list[slice]  # where each mask is not empty
    leave: _Taps  # what is cropped -> image
    windows: list[slice]  # where in the image a mask may not be empty


_Piece = tuple[slice, slice, Tensor]  # rows, columns, the mask's part in them (columns, rows)


def full_masks(
    coefficients: Tensor,
    prototypes: Tensor,
    boxes: Tensor,
    *,
    stride: int,
    content: Content,
    height: int,
    width: int,
    resolution: str,
    mask_format: str,
) -> Tensor | RLEMasks:
    """Masks of the D objects of an image.

    Args:
        coefficients: (D, K).
        prototypes: (K, h, w).
        boxes: (D, 4) in pixels of the canvas; masks are cropped to them.
        stride: pixels of the canvas per cell of the prototypes, which cover it.
        content: where the image lies on the canvas.
        height, width: of the image.
        resolution: "input": probabilities are enlarged to the canvas, cropped and binarised there,
            and the binary masks are resized to the image, as published results are. "fast":
            probabilities are cropped on the grid and go to the image in one step.
        mask_format: "dense": (D, height, width) bool. "rle": RLEMasks.
    """
    fast = resolution == "fast"
    edges = boxes.cpu().double()  # (D, 4)
    shared: dict[str, Any] = {"stride": stride, "fast": fast, "device": prototypes.device}
    cells_y, cells_x = prototypes.shape[1:]
    rows = _axis(
        edges[:, 1::2], cells_y, start=content.top, extent=content.height, size=height, **shared
    )
    columns = _axis(
        edges[:, 0::2], cells_x, start=content.left, extent=content.width, size=width, **shared
    )
    pieces = _pieces(_probabilities(coefficients, prototypes), rows, columns, fast=fast)
    if mask_format == "rle":
        rles = [_encode(piece, height=height, width=width) for piece in pieces]
        return RLEMasks(rles, height=height, width=width, device=prototypes.device)
    masks = prototypes.new_zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (at_rows, at_columns, part) in zip(masks, pieces, strict=True):
        mask[at_rows, at_columns] = part.T
    return masks


def _axis(
    edges: Tensor,
    cells: int,
    *,
    start: int,
    extent: int,
    size: int,
    stride: int,
    fast: bool,
    device: torch.device,
) -> _Axis:
    """Where everything lies along one axis.

    Args:
        edges: (D, 2) of the boxes, on the host.
        cells: of the grid.
        start, extent: of the image on the canvas.
        size: of the image.
        stride, fast, device: as above.
    """
    canvas = (torch.arange(cells * stride, dtype=torch.float64) + 0.5) / stride - 0.5
    image = start + (torch.arange(size, dtype=torch.float64) + 0.5) * extent / size
    first, end, cell = (0, cells, stride) if fast else (start, start + extent, 1)
    leave = _Taps.between(image / cell - 0.5, first, end)
    # A pixel is inside when its index is: left <= index < right.
    begins, ends = (edges.T / cell).ceil().clamp(first, end).long().contiguous()
    ends = ends.maximum(begins)
    reading = torch.searchsorted(leave.upper, begins), torch.searchsorted(leave.lower, ends)
    return _Axis(
        enter=_Taps.between(canvas, 0, cells).to(device),
        crops=_slices(begins, ends),
        leave=leave.to(device),
        windows=_slices(*reading),
    )


def _slices(begins: Tensor, ends: Tensor) -> list[slice]:
    return [slice(*pair) for pair in zip(begins.tolist(), ends.tolist(), strict=True)]


def _probabilities(coefficients: Tensor, prototypes: Tensor) -> Iterator[Tensor]:
    """The probabilities (h, w) of one object after the other."""
    flat = prototypes.flatten(1).float()  # (K, h * w)
    for part in coefficients.float().split(max(1, CHUNK_CELLS // flat.shape[1])):
        with torch.autocast(flat.device.type, enabled=False):
            maps = (part @ flat).sigmoid_().unflatten(1, prototypes.shape[1:])  # (d, h, w)
        yield from maps


def _pieces(
    probabilities: Iterator[Tensor], rows: _Axis, columns: _Axis, *, fast: bool
) -> Iterator[_Piece]:
    """Where each mask is not empty, and what it is there."""
    places = zip(rows.crops, columns.crops, rows.windows, columns.windows, strict=True)
    for grid, (crop_y, crop_x, window_y, window_x) in zip(probabilities, places, strict=True):
        if fast:
            inside = grid[crop_y, crop_x]
        else:
            enlarged = _resize(grid.T, columns.enter.cut(crop_x), rows.enter.cut(crop_y))
            inside = (enlarged > 0.5).float()
        resized = _resize(
            F.pad(inside, (1, 1, 1, 1)),
            rows.leave.cut(window_y, first=crop_y.start - 1),
            columns.leave.cut(window_x, first=crop_x.start - 1),
        )
        yield window_y, window_x, resized > 0.5 if fast else resized >= 0.5


def _resize(source: Tensor, first: _Taps, second: _Taps) -> Tensor:
    """Resize both axes, and swap them: whole rows are read, which is fast."""
    return _read(_read(source, first).T.contiguous(), second)


def _read(source: Tensor, taps: _Taps) -> Tensor:
    lower, upper = source.index_select(0, taps.lower), source.index_select(0, taps.upper)
    return lower.lerp_(upper, taps.weight[:, None])


def _encode(piece: _Piece, *, height: int, width: int) -> dict[str, Any]:
    """COCO's run lengths, which go down the columns of the image, from one window of it."""
    rows, columns, mask = piece
    padded = np.pad(mask.cpu().numpy(), ((0, 0), (1, 1)))  # (columns, rows + 2)
    column, row = np.divmod(
        np.flatnonzero(padded[:, 1:] != padded[:, :-1]), padded.shape[1] - 1
    )  # begins and ends of runs, by turns
    changes = (columns.start + column) * height + rows.start + row
    continued = np.flatnonzero(changes[1:] == changes[:-1])  # at the top of the next column
    changes = np.delete(changes, np.concatenate([continued, continued + 1]))
    counts = np.diff(changes, prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}
