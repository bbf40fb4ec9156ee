"""The canvas of a strong view: windows of images are painted directly onto the output.

Each pixel is warped once; boxes, masks and semantic labels are moved by the same map. There is no
file access and no randomness here.
"""

from typing import NamedTuple

import cv2
import numpy as np

from ...letterbox import PAD_VALUE
from ..catalog.categories import IGNORE_LABEL, MAX_CLASSES
from .mosaic import Window
from .targets import (
    Objects,
    Outline,
    box_areas,
    clip_boxes,
    clip_outlines,
    fill,
    move_boxes,
    move_outlines,
    outline_extent,
    rasterize,
    rasterize_all,
    truncate,
)
from .transforms import multiply_hsv

# Label of cells that no image covers; `finish` replaces it by IGNORE_LABEL.
UNCOVERED = MAX_CLASSES

# Cut boxes outside of these limits are dropped.
MIN_SIDE = 2.0  # pixels
MIN_AREA_SHARE = 0.01  # of the area before cutting
MAX_ASPECT = 100.0


class Targets(NamedTuple):
    """Targets of a strong view, in its own pixels; None if not requested."""

    boxes: np.ndarray  # (G, 4) float32, x0 y0 x1 y1
    classes: np.ndarray  # (G,) int64
    masks: np.ndarray | None  # (G, size / mask_stride, size / mask_stride) bool
    sem_seg: np.ndarray | None  # (size / sem_seg_stride, size / sem_seg_stride) uint8


class MaskStack:
    """Square masks in one array, so that a pasted object hides its part of all of them at once."""

    def __init__(self, side: int) -> None:
        self._array = np.zeros((32, side, side), dtype=bool)  # with spare room
        self._count = 0

    @property
    def all(self) -> np.ndarray:
        """All masks, (count, side, side)."""
        return self._array[: self._count]

    def append(self, number: int) -> np.ndarray:
        """Append empty masks and return them, (number, side, side)."""
        first, self._count = self._count, self._count + number
        if self._count > len(self._array):
            larger = np.zeros((2 * self._count, *self._array.shape[1:]), dtype=bool)
            larger[:first] = self._array[:first]
            self._array = larger
        return self._array[first : self._count]


class Canvas:
    """A square output and its targets.

    Args:
        size: side in pixels, a multiple of the strides.
        mask_stride: stride of the instance masks; None disables them.
        sem_seg_stride: stride of the semantic map; None disables it.
        hsv_factors: (3,) applied to everything painted, not to the padding, whose value is the one
            that the model pads with.
    """

    def __init__(
        self,
        *,
        size: int,
        mask_stride: int | None,
        sem_seg_stride: int | None,
        hsv_factors: np.ndarray,
    ) -> None:
        self.size = size
        self.mask_stride = mask_stride
        self.sem_seg_stride = sem_seg_stride
        self.hsv_factors = hsv_factors
        self.image = np.full((size, size, 3), PAD_VALUE, dtype=np.uint8)
        self.sem_seg: np.ndarray | None = None
        self._boxes = [np.zeros((0, 4))]  # parts of these two are concatenated by `finish`
        self._classes = [np.zeros(0, dtype=np.int64)]
        self._masks = None if mask_stride is None else MaskStack(size // mask_stride)
        if sem_seg_stride is not None:
            cells = size // sem_seg_stride
            self.sem_seg = np.full((cells, cells), UNCOVERED, dtype=np.uint8)

    def empty_copy(self) -> "Canvas":
        """Return an empty canvas with the same settings."""
        return Canvas(
            size=self.size,
            mask_stride=self.mask_stride,
            sem_seg_stride=self.sem_seg_stride,
            hsv_factors=self.hsv_factors,
        )

    def paint(self, window: Window, pixels: np.ndarray, labels: np.ndarray | None) -> None:
        """Paint an image through a window.

        Args:
            window: result of `mosaic.visible_window`.
            pixels: the image, uint8 RGB, read at the window's reduction.
            labels: its semantic map at full size; None if the canvas has none.
        """
        x0, y0, x1, y1 = window.target
        target = self.image[y0:y1, x0:x1]
        if window.is_upright:
            first_x, first_y, last_x, last_y = (int(v) // window.reduction for v in window.source)
            source = pixels[first_y:last_y, first_x:last_x]
            enlarges = source.size < target.size  # change colors where there are fewer pixels
            if enlarges:
                source = multiply_hsv(source, self.hsv_factors)
            cv2.resize(source, (x1 - x0, y1 - y0), dst=target, interpolation=cv2.INTER_LINEAR)
            if not enlarges:
                target[:] = multiply_hsv(target, self.hsv_factors)
        else:
            inside = self._covered(window, stride=1)
            patch = warp(pixels, window.matrix, window.reduction, window.target)
            target[inside] = multiply_hsv(patch, self.hsv_factors)[inside]
        if self.sem_seg is not None:
            assert labels is not None
            self._paint_labels(window, labels)

    def _paint_labels(self, window: Window, labels: np.ndarray) -> None:
        """Give each cell the label of the image pixel under its center."""
        assert self.sem_seg is not None
        assert self.sem_seg_stride is not None
        rows, columns = _cells(window.target, self.sem_seg_stride)
        (x_scale, x_shear, x_shift), (y_shear, y_scale, y_shift) = _inverse(window.matrix)
        x = (np.arange(columns.start, columns.stop) + 0.5) * self.sem_seg_stride
        y = (np.arange(rows.start, rows.stop) + 0.5)[:, None] * self.sem_seg_stride
        limit_y, limit_x = labels.shape[0] - 1, labels.shape[1] - 1
        target = self.sem_seg[rows, columns]
        if window.is_upright:
            source_x = (x_scale * x + x_shift).astype(np.intp).clip(0, limit_x)
            source_y = (y_scale * y + y_shift).astype(np.intp).clip(0, limit_y)
            target[:] = labels[source_y[:, 0]][:, source_x]
        else:
            source_x = (x_scale * x + x_shear * y + x_shift).astype(np.intp).clip(0, limit_x)
            source_y = (y_shear * x + y_scale * y + y_shift).astype(np.intp).clip(0, limit_y)
            inside = self._covered(window, stride=self.sem_seg_stride)
            target[inside] = labels[source_y, source_x][inside]

    def _covered(self, window: Window, *, stride: int) -> np.ndarray:
        """Return which cells of a rotated window's target have their center inside the window."""
        rows, columns = _cells(window.target, stride)
        x = (np.arange(columns.start, columns.stop) + 0.5) * stride
        y = (np.arange(rows.start, rows.stop) + 0.5)[:, None] * stride
        (a, b, c), (d, e, f) = _inverse(window.matrix)
        source_x, source_y = a * x + b * y + c, d * x + e * y + f
        x0, y0, x1, y1 = window.source
        return (source_x >= x0) & (source_x < x1) & (source_y >= y0) & (source_y < y1)

    def add(self, objects: Objects, window: Window) -> None:
        """Add the objects of an image that are visible in a window, cut at its borders."""
        whole = clip_boxes(objects.boxes, window.region)
        visible = clip_boxes(objects.boxes, window.source)
        shown = np.flatnonzero((visible[:, 2:] > visible[:, :2]).all(axis=1))
        if not len(shown):
            return
        boxes = move_boxes(visible[shown], window.matrix)
        is_cut = (visible[shown] != objects.boxes[shown]).any(axis=1) | (not window.is_upright)
        shapes: dict[int, list[Outline]] = {}
        for position in np.flatnonzero(is_cut).tolist():
            shape = self._shape(objects, int(shown[position]), window)
            shapes[position] = shape
            boxes[position] = outline_extent(shape)
        full_areas = box_areas(whole[shown]) * abs(np.linalg.det(window.matrix[:, :2]))
        keep = np.flatnonzero(is_worth_keeping(boxes, full_areas))
        self._boxes.append(boxes[keep])
        self._classes.append(objects.classes[shown[keep]])
        if self._masks is not None:
            assert self.mask_stride is not None
            kept = [
                shapes[i] if is_cut[i] else self._shape(objects, int(shown[i]), window)
                for i in keep.tolist()
            ]
            full_size = {"width": self.size, "height": self.size}
            masks = self._masks.append(len(kept))
            rasterize_all(kept, **full_size, stride=self.mask_stride, out=masks)

    def _shape(self, objects: Objects, index: int, window: Window) -> list[Outline]:
        """Return an object's shape on the output, cut at the window and at the output's border."""
        outlines = objects.outlines(index)
        x0, y0, x1, y1 = window.source
        box = objects.boxes[index]
        if not (x0 <= box[0] and y0 <= box[1] and box[2] <= x1 and box[3] <= y1):
            outlines = clip_outlines(outlines, window.source)
        outlines = move_outlines(outlines, window.matrix)
        if not window.is_upright:
            outlines = clip_outlines(outlines, (0, 0, self.size, self.size))
        return outlines

    def paste(
        self,
        outlines: list[Outline],
        box: np.ndarray,
        class_index: int,
        *,
        pixels: np.ndarray,
        label: int | None,
        matrix: np.ndarray,
        reduction: int,
    ) -> None:
        """Paste an object over the canvas (copy-paste).

        Args:
            outlines: its shape, clipped to the output.
            box: (4,) the extent of the shape.
            class_index: its class.
            pixels: the image it comes from.
            label: its label in semantic maps; None if the canvas has none.
            matrix: (2, 3) map from the image to the output.
            reduction: the one at which `pixels` were read.
        """
        corners = np.concatenate([np.floor(box[:2]), np.ceil(box[2:])]).clip(0, self.size)
        x0, y0, x1, y1 = corners.astype(int).tolist()
        inside = fill(truncate(outlines), columns=slice(x0, x1), rows=slice(y0, y1))
        patch = warp(pixels, matrix, reduction, (x0, y0, x1, y1))
        patch = multiply_hsv(patch, self.hsv_factors)
        cv2.copyTo(patch, inside, self.image[y0:y1, x0:x1])
        full_size = {"width": self.size, "height": self.size}
        cells: dict[int | None, tuple[slice, slice, np.ndarray]] = {}
        for stride in {self.mask_stride, self.sem_seg_stride}:
            if stride is not None:
                cells[stride] = rasterize(outlines, **full_size, stride=stride)
        if self.sem_seg is not None:
            rows, columns, shape = cells[self.sem_seg_stride]
            self.sem_seg[rows, columns][shape] = label
        self._boxes.append(box[None])
        self._classes.append(np.array([class_index]))
        if self._masks is not None:
            rows, columns, shape = cells[self.mask_stride]
            self._masks.all[:, rows, columns] &= ~shape  # hidden by the pasted object
            self._masks.append(1)[0, rows, columns] = shape

    def mix(self, other: "Canvas", share: float) -> None:
        """Blend with another canvas (mixup), keeping the objects of both.

        Cells where both canvases have labels and they differ are ignored.

        Args:
            other: the other canvas, with weight 1 - share.
            share: weight of this canvas.
        """
        cv2.addWeighted(self.image, share, other.image, 1 - share, 0, dst=self.image)
        self._boxes += other._boxes
        self._classes += other._classes
        if self._masks is not None and other._masks is not None:
            self._masks.append(len(other._masks.all))[:] = other._masks.all
        if self.sem_seg is not None and other.sem_seg is not None:
            mine, theirs = self.sem_seg, other.sem_seg
            mixed = np.where(mine == theirs, mine, np.uint8(IGNORE_LABEL))
            mixed = np.where(mine == UNCOVERED, theirs, mixed)
            self.sem_seg = np.where(theirs == UNCOVERED, mine, mixed)

    def finish(self, *, flip: bool) -> Targets:
        """Mirror the image and the targets if `flip`, and return the targets."""
        boxes = np.concatenate(self._boxes).clip(0, self.size).astype(np.float32)
        masks = None if self._masks is None else self._masks.all
        sem_seg = None
        if self.sem_seg is not None:
            sem_seg = np.where(self.sem_seg == UNCOVERED, np.uint8(IGNORE_LABEL), self.sem_seg)
        if flip:
            cv2.flip(self.image, 1, dst=self.image)
            boxes[:, [0, 2]] = self.size - boxes[:, [2, 0]]
            masks = None if masks is None else masks[:, :, ::-1]
            sem_seg = None if sem_seg is None else np.ascontiguousarray(sem_seg[:, ::-1])
        masks = None if masks is None else masks.copy()  # without the spare room of the stack
        return Targets(boxes, np.concatenate(self._classes), masks, sem_seg)


def is_worth_keeping(boxes: np.ndarray, full_areas: np.ndarray) -> np.ndarray:
    """Return (G,) bool: which cut boxes are large enough, given their areas before cutting."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    aspect = np.maximum(width, height) / np.maximum(np.minimum(width, height), 1e-9)
    is_large = (width > MIN_SIDE) & (height > MIN_SIDE)
    return is_large & (width * height > MIN_AREA_SHARE * full_areas) & (aspect < MAX_ASPECT)


def warp(
    pixels: np.ndarray, matrix: np.ndarray, reduction: int, target: tuple[int, int, int, int]
) -> np.ndarray:
    """Return the rectangle `target` of the output of an affine warp, (h, w, 3)."""
    x0, y0, x1, y1 = target
    linear, shift = matrix[:, :2] * reduction, matrix[:, 2] - [x0, y0]
    # OpenCV's origin is the center of the first pixel, ours its corner.
    shift = shift + linear @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(
        pixels,
        np.column_stack([linear, shift]),
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _inverse(matrix: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _cells(target: tuple[int, int, int, int], stride: int) -> tuple[slice, slice]:
    """Return rows and columns of the cells whose centers lie in a half-open rectangle."""
    x0, y0, x1, y1 = (int(np.ceil(v / stride - 0.5)) for v in target)
    return slice(y0, y1), slice(x0, x1)
