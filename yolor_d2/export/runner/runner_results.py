"""From a network's outputs on the canvas to boxes, masks and maps on the image, in NumPy.

Shapes: A points, C classes, D objects, K prototypes, S semantic classes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TILE = 64  # side of the part of the semantic map that is computed at a time
CHUNK_CELLS = 2**23  # maximum number of cells of mask logits that are computed at once


class Content(NamedTuple):
    """Position of an image on its canvas, in pixels."""

    left: int
    top: int
    width: int
    height: int


def detect(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    score_threshold: float,
    nms_threshold: float,
    multi_label: bool,
    pre_nms_topk: int,
    detections_per_image: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apply non-maximum suppression per class to boxes (A, 4) with scores (A, C).

    Returns:
        Boxes (D, 4) on the canvas, point indices (D,) and classes (D,), in order of the score.
    """
    above = scores > score_threshold
    if not multi_label:
        above &= np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
    points, classes = above.nonzero()
    order = np.argsort(-scores[points, classes], kind="stable")[:pre_nms_topk]
    points, classes = points[order], classes[order]
    exact = boxes[points].astype(np.float64)
    areas = (exact[:, 2:] - exact[:, :2]).prod(axis=1)
    same_class = {c: np.flatnonzero(classes == c) for c in np.unique(classes).tolist()}
    is_suppressed = np.zeros(len(points), bool)
    kept: list[int] = []
    for best in range(len(points)):
        if is_suppressed[best]:
            continue
        kept.append(best)
        if len(kept) == detections_per_image:
            break
        left = same_class[int(classes[best])]
        left = left[(left > best) & ~is_suppressed[left]]
        low = np.maximum(exact[left, :2], exact[best, :2])
        high = np.minimum(exact[left, 2:], exact[best, 2:])
        shared = (high - low).clip(min=0).prod(axis=1)
        is_suppressed[left] = shared > nms_threshold * (areas[left] + areas[best] - shared)
    return boxes[points[kept]], points[kept], classes[kept]


def boxes_to_image(boxes: np.ndarray, *, content: Content, height: int, width: int) -> np.ndarray:
    """Convert boxes (D, 4) from canvas to image coordinates, and clip them."""
    start = np.array([content.left, content.top] * 2, np.float32)
    scale = np.array([width / content.width, height / content.height] * 2, np.float32)
    return ((boxes - start) * scale).clip(0, np.array([width, height] * 2, np.float32))


class Taps(NamedTuple):
    """Linear interpolation along an axis: the two neighboring inputs of each of n outputs."""

    lower: np.ndarray  # (n,)
    upper: np.ndarray  # (n,)
    weight: np.ndarray  # (n,) of upper

    @classmethod
    def between(cls, positions: np.ndarray, first: int, end: int) -> "Taps":
        """Return the interpolation at `positions` between the inputs `first` to `end` - 1."""
        positions = positions.clip(first, end - 1)
        lower, upper = np.floor(positions), np.ceil(positions)
        weight = (positions - lower).astype(np.float32)
        return cls(lower.astype(int), upper.astype(int), weight)

    def crop(self, outputs: slice, first: int) -> "Taps":
        """Return the interpolation of some outputs, from inputs that begin at index `first`."""
        return Taps(self.lower[outputs] - first, self.upper[outputs] - first, self.weight[outputs])

    def inputs(self, outputs: slice) -> slice:
        """Return the inputs that a nonempty range of outputs needs."""
        return slice(int(self.lower[outputs.start]), int(self.upper[outputs.stop - 1]) + 1)

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Interpolate between rows."""
        values = source.take(self.lower, axis=0)
        if self.weight.any():
            values += (source.take(self.upper, axis=0) - values) * self.weight[:, None]
        return values


class Axis(NamedTuple):
    """One axis of the resampling of D masks: grid -> canvas, cropped there -> image."""

    to_canvas: Taps  # grid -> canvas; for "fast", the grid replaces the canvas
    crops: list[slice]  # extent of each mask on the canvas
    to_image: Taps  # canvas -> image
    windows: list[slice]  # of each mask, in the image; the mask is empty elsewhere

    @classmethod
    def of(
        cls,
        edges: np.ndarray,
        *,
        cells: int,
        stride: int,
        start: int,
        extent: int,
        size: int,
        fast: bool,
    ) -> "Axis":
        """
        Args:
            edges: (D, 2) first and last coordinate of each box on the canvas.
            cells: number of cells of the grid.
            stride: pixels of the canvas per cell.
            start, extent: position and size of the image on the canvas.
            size: pixels of the image.
            fast: crop on the grid.
        """
        pixel = stride if fast else 1
        canvas = (np.arange(cells * stride // pixel) + 0.5) / (stride // pixel) - 0.5
        image = (start + (np.arange(size) + 0.5) * extent / size) / pixel - 0.5
        first, end = (0, cells) if fast else (start, start + extent)
        to_image = Taps.between(image, first, end)
        # A pixel is inside when its index is: left <= index < right.
        inside = np.ceil(edges.astype(np.float64) / pixel).clip(first, end).astype(int)
        begins, ends = inside[:, 0], inside.max(axis=1)
        first_pixel = np.searchsorted(to_image.upper, begins)
        end_pixel = np.searchsorted(to_image.lower, ends)
        return cls(
            Taps.between(canvas, 0, cells),
            [slice(*pair) for pair in zip(begins.tolist(), ends.tolist(), strict=True)],
            to_image,
            [slice(*pair) for pair in zip(first_pixel.tolist(), end_pixel.tolist(), strict=True)],
        )


def full_masks(
    coefficients: np.ndarray,
    prototypes: np.ndarray,
    boxes: np.ndarray,
    *,
    stride: int,
    resolution: str,
    content: Content,
    height: int,
    width: int,
) -> np.ndarray:
    """Return the masks of D objects. Only the window around each box is computed.

    Args:
        coefficients: (D, K) weights of the prototypes.
        prototypes: (K, h, w) logits.
        boxes: (D, 4) on the canvas; masks are cropped to them.
        stride: pixels of the canvas per cell of the prototypes.
        resolution: "input" crops and thresholds masks on the canvas, and resizes them to the image;
            "fast" crops them on the grid, resizes them to the image and thresholds them.
        content: position of the image on the canvas.
        height, width: size of the image.

    Returns:
        (D, height, width) bool.
    """
    fast = resolution == "fast"
    shared: Any = {"stride": stride, "fast": fast}
    (left, top, extent_x, extent_y), (_, h, w) = content, prototypes.shape
    rows = Axis.of(boxes[:, 1::2], cells=h, start=top, extent=extent_y, size=height, **shared)
    columns = Axis.of(boxes[:, 0::2], cells=w, start=left, extent=extent_x, size=width, **shared)
    flat = prototypes.reshape(len(prototypes), -1)
    masks = np.zeros((len(boxes), height, width), bool)
    size = max(1, CHUNK_CELLS // flat.shape[1])
    for start in range(0, len(boxes), size):
        grids = (coefficients[start : start + size] @ flat).reshape(-1, h, w)  # logits
        for number, grid in enumerate(grids, start):
            _paste(grid, rows, columns, masks[number], number, fast=fast)
    return masks


def _paste(
    grid: np.ndarray, rows: Axis, columns: Axis, mask: np.ndarray, number: int, *, fast: bool
) -> None:
    """Write the mask of an object, of which the grid has the logits, into its window."""
    y, x = rows.crops[number], columns.crops[number]
    if y.start == y.stop or x.start == x.stop:
        return
    cells_y, cells_x = rows.to_canvas.inputs(y), columns.to_canvas.inputs(x)
    inside = (np.tanh(grid[cells_y, cells_x] / 2) + 1) / 2  # probabilities
    # Every step interpolates whole rows, and the transposed map follows: twice for both axes.
    if not fast:
        enlarged = rows.to_canvas.crop(y, cells_y.start)(inside).T
        enlarged = columns.to_canvas.crop(x, cells_x.start)(np.ascontiguousarray(enlarged)).T
        inside = (enlarged > 0.5).astype(np.float32)
    window_y, window_x = rows.windows[number], columns.windows[number]
    resized = rows.to_image.crop(window_y, y.start - 1)(np.pad(inside, 1)).T
    resized = columns.to_image.crop(window_x, x.start - 1)(np.ascontiguousarray(resized)).T
    mask[window_y, window_x] = resized > 0.5 if fast else resized >= 0.5


def labels_at(
    logits: np.ndarray, *, content: Content, canvas: Sequence[int], height: int, width: int
) -> np.ndarray:
    """Return the best class of each pixel of an image (height, width), from logits (S, h, w).

    Args:
        logits: logits of the whole canvas, of any stride.
        content: position of the image on the canvas.
        canvas: height and width of the canvas.
        height, width: size of the image.
    """
    (canvas_height, canvas_width), (_, h, w) = canvas, logits.shape
    cell_height, cell_width = canvas_height / h, canvas_width / w
    down = interpolation(
        height, h, start=content.top / cell_height, length=content.height / cell_height
    )
    across = interpolation(
        width, w, start=content.left / cell_width, length=content.width / cell_width
    )
    labels = np.empty((height, width), np.uint8 if len(logits) <= 256 else np.int64)
    cells = np.ascontiguousarray(logits.transpose(1, 2, 0))  # (h, w, S)
    for rows, used_y in _tiles(down):
        for columns, used_x in _tiles(across):
            tile = cells[used_y, used_x]  # (cells, cells, S)
            # A mean of a class is at most its largest value, and one is at least this limit.
            limit = tile.min(axis=(0, 1)).max()
            possible = np.flatnonzero(tile.max(axis=(0, 1)) >= limit)
            if len(possible) == 1:
                labels[rows, columns] = possible[0]
                continue
            wide = across[columns, used_x] @ tile[:, :, possible]  # (cells, columns, s)
            values = down[rows, used_y] @ wide.reshape(len(wide), -1)
            best = values.reshape(len(values), -1, len(possible)).argmax(axis=2)
            labels[rows, columns] = possible[best]
    return labels


def interpolation(pixels: int, cells: int, *, start: float, length: float) -> np.ndarray:
    """Return the matrix of linear interpolation along an axis.

    Args:
        pixels: number of outputs.
        cells: number of inputs, of which those with their centers inside the range are used.
        start, length: first position and length of the interpolated range, in cells.

    Returns:
        Weights (pixels, cells) float32.
    """
    first, last = math.ceil(start - 0.5), math.ceil(start + length - 0.5) - 1
    if last < first:  # no cell center is inside
        first = last = int(start + length / 2)
    centers = (np.arange(pixels) + 0.5) * (length / pixels) + start
    places = (centers - 0.5).clip(first, last)
    return (1 - abs(places[:, None] - np.arange(cells))).clip(min=0).astype(np.float32)


def _tiles(weights: np.ndarray) -> list[tuple[slice, slice]]:
    """Return ranges of pixels, each with the range of cells that it is interpolated from."""
    tiles = []
    for start in range(0, len(weights), TILE):
        pixels = slice(start, start + TILE)
        used = np.flatnonzero(weights[pixels].any(axis=0))
        tiles.append((pixels, slice(int(used[0]), int(used[-1]) + 1)))
    return tiles


def merge(
    masks: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    labels: np.ndarray,
    *,
    thing_to_panoptic: list[int],
    leaf_to_panoptic: list[int],
    overlap_threshold: float,
    stuff_area_limit: int,
    score_threshold: float,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Paint objects on an empty map in order of the score, then stuff on the remaining pixels.

    Args:
        masks, scores, classes: masks, scores and classes of the D objects.
        labels: (height, width), the semantic class of each pixel.
        thing_to_panoptic: panoptic class of each thing class; -1 for none.
        leaf_to_panoptic: panoptic class of each semantic stuff class; -1 for none.
        overlap_threshold: objects with a larger hidden share are dropped.
        stuff_area_limit: smaller stuff areas are dropped.
        score_threshold: objects with lower scores are dropped.

    Returns:
        Segment ids (height, width) int32, 0 for none, and the segments.
    """
    categories = np.array([*thing_to_panoptic, -1])[classes.clip(max=len(thing_to_panoptic))]
    ids = np.zeros(labels.shape, np.int32)
    segments: list[dict[str, Any]] = []
    for number in np.argsort(-scores, kind="stable").tolist():
        if float(scores[number]) < score_threshold or categories[number] < 0:
            continue
        visible = masks[number] & (ids == 0)
        area, visible_area = np.count_nonzero(masks[number]), np.count_nonzero(visible)
        if visible_area == 0 or (area - visible_area) / area > overlap_threshold:
            continue
        ids[visible] = len(segments) + 1
        facts = {"isthing": True, "score": float(scores[number]), "instance_id": number}
        segments.append({"id": len(segments) + 1, "category_id": int(categories[number]), **facts})
    table = np.array([*leaf_to_panoptic, -1])
    free = np.where(ids == 0, table[labels.clip(max=len(leaf_to_panoptic))], -1)  # (height, width)
    areas = np.bincount(free.ravel() + 1)[1:]  # of each panoptic class
    numbers = np.zeros(len(areas) + 1, np.int32)  # segment id of each; the last one is for none
    for category in np.flatnonzero(areas >= max(stuff_area_limit, 1)).tolist():
        numbers[category] = len(segments) + 1
        facts = {"isthing": False, "category_id": category, "area": int(areas[category])}
        segments.append({"id": len(segments) + 1, **facts})
    return ids + numbers[free], segments
