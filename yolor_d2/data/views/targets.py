"""Annotations as arrays: affine maps, clipping, rasterization. No randomness, no files.

Coordinates are continuous pixels, x before y: pixel (0, 0) covers [0, 1) x [0, 1). A map is a
matrix of shape (2, 3) from image to output coordinates; a rectangle is (x0, y0, x1, y1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ...errors import LabelError

# Rings are filled together by the even-odd rule; the outlines of an object are united.
Outline = list[np.ndarray]  # rings of shape (points, 2), float32
Vertices = list[list[np.ndarray]]  # the same at whole pixels, int32


class TargetStrides(NamedTuple):
    """Pixels per cell of the targets; 1 for heads that expect full resolution."""

    mask: int = 4
    sem_seg: int = 4


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image. Segmentations are decoded when needed, each once."""

    boxes: np.ndarray  # (G, 4) float64, x0 y0 x1 y1
    classes: np.ndarray  # (G,) int64
    segmentations: list[Any]  # polygons or RLE; None for an object with only a box
    width: int
    height: int
    _outlines: dict[int, list[Outline]] = field(default_factory=dict, init=False, repr=False)

    def outlines(self, index: int) -> list[Outline]:
        """Return an object's shape inside the image; without a segmentation, its box.

        The arrays must not be modified.
        """
        if index not in self._outlines:
            self._outlines[index] = self._decode(index)
        return self._outlines[index]

    def _decode(self, index: int) -> list[Outline]:
        segmentation = self.segmentations[index]
        if segmentation is None:
            x0, y0, x1, y1 = self.boxes[index]
            return [[np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float32)]]
        outlines = read_outlines(segmentation, width=self.width, height=self.height)
        return clip_outlines(outlines, (0, 0, self.width, self.height))


def read_objects(record: dict[str, Any]) -> Objects:
    """Return the objects of a data set dict, without crowds and boxes of zero size."""
    annotations = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
    boxes = np.array([_box_xyxy(a) for a in annotations], dtype=np.float64).reshape(-1, 4)
    boxes = boxes.clip(0, np.array([record["width"], record["height"]] * 2, dtype=np.float64))
    keep = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    annotations = [annotations[i] for i in keep]
    return Objects(
        boxes=boxes[keep],
        classes=np.array([a["category_id"] for a in annotations], dtype=np.int64),
        segmentations=[a.get("segmentation") for a in annotations],
        width=record["width"],
        height=record["height"],
    )


def _box_xyxy(annotation: dict[str, Any]) -> Sequence[float]:
    mode = annotation["bbox_mode"]
    x, y, a, b = annotation["bbox"]
    if mode == BoxMode.XYWH_ABS:
        return x, y, x + a, y + b
    if mode == BoxMode.XYXY_ABS:
        return x, y, a, b
    return BoxMode.convert([x, y, a, b], mode, BoxMode.XYXY_ABS)


def read_outlines(segmentation: Any, *, width: int, height: int) -> list[Outline]:
    """Return polygons unchanged, and an RLE mask as the contours of its pixels, with holes."""
    if isinstance(segmentation, list):
        return [[np.array(ring, dtype=np.float32).reshape(-1, 2)] for ring in segmentation]
    mask = decode_rle(segmentation, width=width, height=height)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # OpenCV's contours run through the centers of the border pixels.
    rings = [contour.reshape(-1, 2).astype(np.float32) + np.float32(0.5) for contour in contours]
    return [rings] if rings else []


def decode_rle(rle: dict[str, Any], *, width: int, height: int) -> np.ndarray:
    """Decode COCO's RLE, compressed or not, to a uint8 mask (height, width)."""
    if list(rle["size"]) != [height, width]:
        raise LabelError(f"a mask of size {list(rle['size'])} in an image of {[height, width]}")
    if isinstance(rle["counts"], list):
        rle = mask_util.frPyObjects(rle, height, width)
    return mask_util.decode(rle)


def move_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the bounding boxes of the moved corners, (G, 4) -> (G, 4)."""
    linear = matrix[:, :2].T
    centers = (boxes[:, :2] + boxes[:, 2:]) @ linear / 2 + matrix[:, 2]  # (G, 2)
    halves = (boxes[:, 2:] - boxes[:, :2]) @ np.abs(linear) / 2  # (G, 2)
    return np.concatenate([centers - halves, centers + halves], axis=1)


def move_outlines(outlines: list[Outline], matrix: np.ndarray) -> list[Outline]:
    """Apply a map to an object's shape."""
    return [[cv2.transform(ring[None], matrix)[0] for ring in rings] for rings in outlines]


def clip_boxes(boxes: np.ndarray, rectangle: Sequence[float]) -> np.ndarray:
    """Clip boxes to a rectangle; boxes outside of it get size zero."""
    x0, y0, x1, y1 = rectangle
    return np.minimum(np.maximum(boxes, (x0, y0, x0, y0)), (x1, y1, x1, y1))


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes, (G, 4) -> (G,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def clip_ring(ring: np.ndarray, rectangle: Sequence[float]) -> np.ndarray:
    """Clip a ring to a rectangle (Sutherland-Hodgman); empty if it lies outside."""
    x0, y0, x1, y1 = rectangle
    x, y, width, height = cv2.boundingRect(ring)  # in whole pixels, at least as large as the ring
    sides = (
        (x < x0, 0, x0, 1),
        (y < y0, 1, y0, 1),
        (x + width > x1, 0, x1, -1),
        (y + height > y1, 1, y1, -1),
    )
    for is_crossed, axis, limit, sign in sides:
        if not is_crossed:
            continue
        depth = sign * (ring[:, axis] - limit)  # inside where >= 0
        inside = depth >= 0
        count = np.count_nonzero(inside)
        if count == len(ring):
            continue
        if count == 0:
            return ring[:0]
        previous = np.arange(-1, len(ring) - 1)
        crosses = inside != inside[previous]
        depth_before = depth[previous]
        share = depth_before / np.where(crosses, depth_before - depth, 1)
        crossing = ring[previous] + share[:, None] * (ring - ring[previous])
        # Each edge yields its crossing with the border, if any, then its end if that is inside.
        both = np.stack([crossing, ring], axis=1).reshape(-1, 2)
        ring = both[np.stack([crosses, inside], axis=1).reshape(-1)]
    return ring.astype(np.float32, copy=False)


def clip_outlines(outlines: list[Outline], rectangle: Sequence[float]) -> list[Outline]:
    """Clip an object's outlines to a rectangle."""
    clipped = ([clip_ring(ring, rectangle) for ring in rings if len(ring)] for rings in outlines)
    kept = ([ring for ring in rings if len(ring) > 2] for rings in clipped)
    return [rings for rings in kept if rings]


def outline_extent(outlines: list[Outline]) -> np.ndarray:
    """Return the bounding box of an object, (4,); zeros if the object is empty."""
    rings = [ring for outline in outlines for ring in outline]
    if not rings:
        return np.zeros(4)
    points = np.concatenate(rings)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def fill(shape: Vertices, *, columns: slice, rows: slice) -> np.ndarray:
    """Rasterize an object into a uint8 window of 0 and 1 that covers these columns and rows."""
    size = (rows.stop - rows.start, columns.stop - columns.start)
    window = np.zeros(size, dtype=np.uint8)
    for rings in shape:
        cv2.fillPoly(window, rings, 1, offset=(-columns.start, -rows.start))
    return window


def truncate(outlines: list[Outline]) -> Vertices:
    """Truncate vertices to whole pixels, as the published network's training does."""
    return [[ring.astype(np.int32) for ring in rings] for rings in outlines]


def rasterize(
    outlines: list[Outline], *, width: int, height: int, stride: int
) -> tuple[slice, slice, np.ndarray]:
    """Rasterize an object at a stride, inside its own window.

    The shape is filled at full size, border included, and resized bilinearly. At stride 4, a cell
    belongs to the object if at least two of its four central pixels do.

    Args:
        outlines: the shape in pixels of the full size.
        width, height: full size, multiples of stride.
        stride: pixels per cell.

    Returns:
        Rows and columns of the window in cells, and its mask, bool (rows, columns).
    """
    shape = truncate(outlines)
    bounds = [cv2.boundingRect(ring) for rings in shape for ring in rings]
    first_x = max(min((x for x, _, _, _ in bounds), default=0) // stride, 0)
    first_y = max(min((y for _, y, _, _ in bounds), default=0) // stride, 0)
    last_x = min(max((x + w for x, _, w, _ in bounds), default=0), width)
    last_y = min(max((y + h for _, y, _, h in bounds), default=0), height)
    columns, rows = slice(first_x, -(-last_x // stride)), slice(first_y, -(-last_y // stride))
    cells = (columns.stop - columns.start, rows.stop - rows.start)
    if min(cells) <= 0:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), dtype=bool)
    window = fill(
        shape,
        columns=slice(first_x * stride, columns.stop * stride),
        rows=slice(first_y * stride, rows.stop * stride),
    )
    if stride > 1:
        window = cv2.resize(window, cells, interpolation=cv2.INTER_LINEAR)
    return rows, columns, window.view(bool)


def rasterize_all(
    shapes: Sequence[list[Outline]],
    *,
    width: int,
    height: int,
    stride: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Rasterize objects to masks, bool (G, height / stride, width / stride).

    `out` are empty masks to fill.
    """
    masks = np.zeros((len(shapes), height // stride, width // stride), bool) if out is None else out
    for mask, shape in zip(masks, shapes, strict=True):
        rows, columns, window = rasterize(shape, width=width, height=height, stride=stride)
        mask[rows, columns] = window
    return masks
