"""Masks at the size of an image, from prototypes on a coarse grid.

Only the window around a box is computed, so small objects on large images are cheap.
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
CHUNK_CELLS = 2**23  # maximum number of grid cells that are computed at once, of all objects


class _Taps(NamedTuple):
    """Linear interpolation along an axis: the two neighboring inputs of each of n outputs."""

    lower: Tensor  # (n,)
    upper: Tensor  # (n,)
    weight: Tensor  # (n,) of upper

    @classmethod
    def between(cls, positions: Tensor, first: int, end: int) -> "_Taps":
        """Interpolation at `positions` between the inputs `first` to `end` - 1."""
        positions = positions.clamp(first, end - 1)
        lower = positions.floor()
        upper = (lower + 1).clamp(max=end - 1)
        return cls(lower.long(), upper.long(), (positions - lower).float())

    def to(self, device: torch.device) -> "_Taps":
        return _Taps(*(values.to(device, non_blocking=True) for values in self))

    def crop(self, outputs: slice, *, first: int = 0) -> "_Taps":
        """Interpolation of some outputs, from inputs that begin at index `first`."""
        lower, upper, weight = (values[outputs] for values in self)
        return _Taps(lower - first, upper - first, weight)


class _Axis(NamedTuple):
    """One axis of resizing D masks from the grid to the image.

    Masks are cropped to their boxes in between: on the grid, or on the canvas after `to_canvas`.
    """

    to_canvas: _Taps  # grid -> canvas
    crops: list[slice]  # of each mask, on the grid or the canvas
    to_image: _Taps  # grid or canvas -> image
    windows: list[slice]  # of each mask, in the image; the mask is empty elsewhere


_Window = tuple[slice, slice, Tensor]  # rows, columns, mask inside (columns, rows)


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
        stride: pixels of the canvas per cell of the prototypes, which cover the canvas.
        content: position of the image on the canvas.
        height, width: size of the image.
        resolution: "input": probabilities are resized to the canvas, cropped and binarized, and
            the binary masks are resized to the image, as in the published results. "fast":
            probabilities are cropped on the grid and resized to the image in one step.
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
    windows = _windows(_probabilities(coefficients, prototypes), rows, columns, fast=fast)
    if mask_format == "rle":
        rles = [_encode(window, height=height, width=width) for window in windows]
        return RLEMasks(rles, height=height, width=width, device=prototypes.device)
    masks = prototypes.new_zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (window_y, window_x, part) in zip(masks, windows, strict=True):
        mask[window_y, window_x] = part.T
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
    """Resizing and cropping along one axis.

    Args:
        edges: (D, 2) of the boxes, on the CPU.
        cells: number of cells of the grid.
        start, extent: position and size of the image on the canvas.
        size: of the image.
        stride: pixels of the canvas per cell.
        fast: whether the resolution is "fast".
        device: of the results.
    """
    canvas = (torch.arange(cells * stride, dtype=torch.float64) + 0.5) / stride - 0.5
    image = start + (torch.arange(size, dtype=torch.float64) + 0.5) * extent / size
    first, end, cell = (0, cells, stride) if fast else (start, start + extent, 1)
    to_image = _Taps.between(image / cell - 0.5, first, end)
    # A pixel is inside a box if left <= index < right.
    begins, ends = (edges.T / cell).ceil().clamp(first, end).long().contiguous()
    ends = ends.maximum(begins)
    first_output = torch.searchsorted(to_image.upper, begins)
    end_output = torch.searchsorted(to_image.lower, ends)
    return _Axis(
        to_canvas=_Taps.between(canvas, 0, cells).to(device),
        crops=_slices(begins, ends),
        to_image=to_image.to(device),
        windows=_slices(first_output, end_output),
    )


def _slices(begins: Tensor, ends: Tensor) -> list[slice]:
    return [slice(*pair) for pair in zip(begins.tolist(), ends.tolist(), strict=True)]


def _probabilities(coefficients: Tensor, prototypes: Tensor) -> Iterator[Tensor]:
    """Mask probabilities (h, w) on the grid, object by object."""
    flat = prototypes.flatten(1).float()  # (K, h * w)
    for part in coefficients.float().split(max(1, CHUNK_CELLS // flat.shape[1])):
        with torch.autocast(flat.device.type, enabled=False):
            maps = (part @ flat).sigmoid_().unflatten(1, prototypes.shape[1:])  # (d, h, w)
        yield from maps


def _windows(
    probabilities: Iterator[Tensor], rows: _Axis, columns: _Axis, *, fast: bool
) -> Iterator[_Window]:
    """The window of each mask in the image."""
    slices = zip(rows.crops, columns.crops, rows.windows, columns.windows, strict=True)
    for grid, (crop_y, crop_x, window_y, window_x) in zip(probabilities, slices, strict=True):
        if fast:
            inside = grid[crop_y, crop_x]
        else:
            enlarged = _resize(grid.T, columns.to_canvas.crop(crop_x), rows.to_canvas.crop(crop_y))
            inside = (enlarged > 0.5).float()
        resized = _resize(
            F.pad(inside, (1, 1, 1, 1)),
            rows.to_image.crop(window_y, first=crop_y.start - 1),
            columns.to_image.crop(window_x, first=crop_x.start - 1),
        )
        yield window_y, window_x, resized > 0.5 if fast else resized >= 0.5


def _resize(source: Tensor, first: _Taps, second: _Taps) -> Tensor:
    """Resize both axes and swap them; both passes interpolate whole rows, which is fast."""
    return _interpolate(_interpolate(source, first).T.contiguous(), second)


def _interpolate(source: Tensor, taps: _Taps) -> Tensor:
    lower, upper = source.index_select(0, taps.lower), source.index_select(0, taps.upper)
    return lower.lerp_(upper, taps.weight[:, None])


def _encode(window: _Window, *, height: int, width: int) -> dict[str, Any]:
    """COCO's run lengths of a mask; runs follow the columns of the image."""
    rows, columns, mask = window
    padded = np.pad(mask.cpu().numpy(), ((0, 0), (1, 1)))  # (columns, rows + 2)
    column, row = np.divmod(
        np.flatnonzero(padded[:, 1:] != padded[:, :-1]), padded.shape[1] - 1
    )  # alternating begins and ends of runs
    changes = (columns.start + column) * height + rows.start + row
    continued = np.flatnonzero(changes[1:] == changes[:-1])  # runs that go on in the next column
    changes = np.delete(changes, np.concatenate([continued, continued + 1]))
    counts = np.diff(changes, prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}
