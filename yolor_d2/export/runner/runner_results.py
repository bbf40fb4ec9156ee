"""From a network's outputs on the canvas to boxes, masks and maps on the image, in NumPy.

Shapes: A points, C classes, D objects, K prototypes, S semantic classes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TILE_ROWS = 32  # rows of the semantic map computed at a time


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


def interpolation(
    pixels: int, cells: int, *, start: float, length: float, outside: bool = False
) -> np.ndarray:
    """Return the matrix of linear interpolation along an axis.

    Args:
        pixels: number of outputs.
        cells: number of inputs.
        start, length: first position and length of the interpolated range, in cells.
        outside: also use cells whose centers are outside the range.

    Returns:
        Weights (pixels, cells) float32.
    """
    first, last = 0, cells - 1
    if not outside:
        first, last = math.ceil(start - 0.5), math.ceil(start + length - 0.5) - 1
        if last < first:  # no cell center is inside
            first = last = int(start + length / 2)
    centers = (np.arange(pixels) + 0.5) * (length / pixels) + start
    places = (centers - 0.5).clip(first, last)
    return (1 - abs(places[:, None] - np.arange(cells))).clip(min=0).astype(np.float32)


class Axis(NamedTuple):
    """One axis of the resampling of D masks: grid -> canvas, cropped there -> image."""

    to_canvas: np.ndarray  # (pixels of the canvas, cells)
    crops: list[slice]  # extent of each mask on the canvas
    to_image: np.ndarray  # (pixels of the image, pixels of the canvas)

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
            fast: crop on the grid, which replaces the canvas.
        """
        pixel = stride if fast else 1
        pixels = cells * stride // pixel
        low, high = (0, cells) if fast else (start, start + extent)
        # A pixel is inside when its index is: left <= index < right.
        inside = np.ceil(edges.astype(np.float64) / pixel).clip(low, high).astype(int).tolist()
        return cls(
            interpolation(pixels, cells, start=0, length=cells, outside=True),
            [slice(begin, max(begin, end)) for begin, end in inside],
            interpolation(size, pixels, start=start / pixel, length=extent / pixel, outside=fast),
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
    """Return the masks of D objects.

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
    shared: Any = {"stride": stride, "fast": resolution == "fast"}
    (left, top, extent_x, extent_y), (_, h, w) = content, prototypes.shape
    rows = Axis.of(boxes[:, 1::2], cells=h, start=top, extent=extent_y, size=height, **shared)
    columns = Axis.of(boxes[:, 0::2], cells=w, start=left, extent=extent_x, size=width, **shared)
    flat = prototypes.reshape(len(prototypes), -1)
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, weights, y, x in zip(masks, coefficients, rows.crops, columns.crops, strict=True):
        grid = (np.tanh((weights @ flat).reshape(h, w) / 2) + 1) / 2  # probabilities
        inside = rows.to_canvas[y] @ grid @ columns.to_canvas[x].T
        if resolution != "fast":
            inside = (inside > 0.5).astype(np.float32)
        down, across = rows.to_image[:, y], columns.to_image[:, x]
        visible_y, visible_x = down.any(axis=1), across.any(axis=1)
        resized = down[visible_y] @ inside @ across[visible_x].T
        mask[np.ix_(visible_y, visible_x)] = (
            resized > 0.5 if resolution == "fast" else resized >= 0.5
        )
    return masks


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
    for start in range(0, height, TILE_ROWS):
        rows = slice(start, start + TILE_ROWS)
        used = down[rows].any(axis=0)
        wide = logits[:, used] @ across.T  # (S, cells, width)
        labels[rows] = (down[rows][:, used] @ wide).argmax(axis=0)
    return labels


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
    ids = np.zeros(labels.shape, np.int32)
    segments: list[dict[str, Any]] = []
    categories = np.array([*thing_to_panoptic, -1])[classes.clip(max=len(thing_to_panoptic))]
    for number in np.argsort(-scores, kind="stable").tolist():
        if float(scores[number]) < score_threshold or categories[number] < 0:
            continue
        visible = masks[number] & (ids == 0)
        area, visible_area = int(masks[number].sum()), int(visible.sum())
        if visible_area == 0 or (area - visible_area) / area > overlap_threshold:
            continue
        ids[visible] = len(segments) + 1
        facts = {"isthing": True, "score": float(scores[number]), "instance_id": number}
        segments.append({"id": len(segments) + 1, "category_id": int(categories[number]), **facts})
    stuff = np.array([*leaf_to_panoptic, -1])[labels.clip(max=len(leaf_to_panoptic))]
    stuff[ids > 0] = -1
    for category in np.unique(stuff[stuff >= 0]).tolist():
        mask = stuff == category
        area = int(mask.sum())
        if area >= stuff_area_limit:
            ids[mask] = len(segments) + 1
            facts = {"isthing": False, "category_id": category, "area": area}
            segments.append({"id": len(segments) + 1, **facts})
    return ids, segments
