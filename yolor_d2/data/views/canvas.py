"""The strong view in the making: windows of images painted straight onto the output.

Each pixel is warped once, and what moves pixels moves boxes, masks and semantic labels with the
same map. Pure: pixels and annotations come in as arguments, randomness as drawn numbers.
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

# Semantic label of what no image covers; it becomes IGNORE_LABEL in the end.
NOTHING = MAX_CLASSES

MIN_SIDE = 2.0  # px; thinner boxes are dropped,
MIN_AREA_SHARE = 0.01  # so are those of which less is left,
MAX_ASPECT = 100.0  # and slivers


class Targets(NamedTuple):
    """What a strong view holds, in its own pixels; None is what was not asked for."""

    boxes: np.ndarray  # (G, 4) float32, x0 y0 x1 y1
    classes: np.ndarray  # (G,) int64
    masks: np.ndarray | None  # (G, size / mask_stride, size / mask_stride) bool
    sem_seg: np.ndarray | None  # (size / sem_stride, size / sem_stride) uint8


class Canvas:
    """A square output and its targets.

    Args:
        size: side in pixels, a multiple of the strides.
        mask_stride: of the instance masks; None makes none.
        sem_stride: of the semantic map; None makes none.
        hsv_factors: of the colours of whatever is painted; the padding keeps its value, the one
            that the model pads with.
    """

    def __init__(
        self,
        *,
        size: int,
        mask_stride: int | None,
        sem_stride: int | None,
        hsv_factors: np.ndarray,
    ) -> None:
        self.size = size
        self.mask_stride = mask_stride
        self.sem_stride = sem_stride
        self.hsv_factors = hsv_factors
        self.image = np.full((size, size, 3), PAD_VALUE, dtype=np.uint8)
        self.sem_seg: np.ndarray | None = None
        self._boxes = [np.zeros((0, 4))]  # these three in parts, put together in the end
        self._classes = [np.zeros(0, dtype=np.int64)]
        self._masks: list[np.ndarray] = []
        if sem_stride is not None:
            cells = size // sem_stride
            self.sem_seg = np.full((cells, cells), NOTHING, dtype=np.uint8)

    def empty_copy(self) -> "Canvas":
        """Another canvas like this one was at first."""
        return Canvas(
            size=self.size,
            mask_stride=self.mask_stride,
            sem_stride=self.sem_stride,
            hsv_factors=self.hsv_factors,
        )

    def paint(self, window: Window, pixels: np.ndarray, labels: np.ndarray | None) -> None:
        """Show an image through a window.

        Args:
            window: from `mosaic.look`.
            pixels: the image, uint8 RGB, read at the window's reduction.
            labels: its semantic map at full size; None when the canvas has none.
        """
        x0, y0, x1, y1 = window.target
        target = self.image[y0:y1, x0:x1]
        if window.is_upright:
            first_x, first_y, last_x, last_y = (int(v) // window.reduction for v in window.source)
            source = pixels[first_y:last_y, first_x:last_x]
            enlarges = source.size < target.size  # colours are changed where there are fewer pixels
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
        """Each cell takes the label of the image pixel below its centre."""
        assert self.sem_seg is not None
        assert self.sem_stride is not None
        rows, columns = _cells(window.target, self.sem_stride)
        (x_scale, x_shear, x_shift), (y_shear, y_scale, y_shift) = _inverse(window.matrix)
        x = (np.arange(columns.start, columns.stop) + 0.5) * self.sem_stride
        y = (np.arange(rows.start, rows.stop) + 0.5)[:, None] * self.sem_stride
        limit_y, limit_x = labels.shape[0] - 1, labels.shape[1] - 1
        target = self.sem_seg[rows, columns]
        if window.is_upright:
            source_x = (x_scale * x + x_shift).astype(np.intp).clip(0, limit_x)
            source_y = (y_scale * y + y_shift).astype(np.intp).clip(0, limit_y)
            target[:] = labels[source_y[:, 0]][:, source_x]
        else:
            source_x = (x_scale * x + x_shear * y + x_shift).astype(np.intp).clip(0, limit_x)
            source_y = (y_shear * x + y_scale * y + y_shift).astype(np.intp).clip(0, limit_y)
            inside = self._covered(window, stride=self.sem_stride)
            target[inside] = labels[source_y, source_x][inside]

    def _covered(self, window: Window, *, stride: int) -> np.ndarray:
        """Of the cells of a rotated window's target: those whose centre the window covers."""
        rows, columns = _cells(window.target, stride)
        x = (np.arange(columns.start, columns.stop) + 0.5) * stride
        y = (np.arange(rows.start, rows.stop) + 0.5)[:, None] * stride
        (a, b, c), (d, e, f) = _inverse(window.matrix)
        source_x, source_y = a * x + b * y + c, d * x + e * y + f
        x0, y0, x1, y1 = window.source
        return (source_x >= x0) & (source_x < x1) & (source_y >= y0) & (source_y < y1)

    def add(self, objects: Objects, window: Window) -> None:
        """Take over the objects of an image that a window shows, cut at its borders."""
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
        if self.mask_stride is not None:
            kept = [
                shapes[i] if is_cut[i] else self._shape(objects, int(shown[i]), window)
                for i in keep.tolist()
            ]
            full_size = {"width": self.size, "height": self.size}
            self._masks.append(rasterize_all(kept, **full_size, stride=self.mask_stride))

    def _shape(self, objects: Objects, index: int, window: Window) -> list[Outline]:
        """An object's shape on the output, cut at the window and at the output's border."""
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
        """Copy-paste: one more object, over what is there.

        Args:
            outlines: its shape on the output, inside it,
            box: (4,) and the extent of that.
            class_index: what it is.
            pixels: the image that it comes from,
            reduction: as read,
            label: of the object in semantic maps; None when the canvas has none,
            matrix: and (2, 3) the map from there to the output.
        """
        corners = np.concatenate([np.floor(box[:2]), np.ceil(box[2:])]).clip(0, self.size)
        x0, y0, x1, y1 = corners.astype(int).tolist()
        inside = fill(truncate(outlines), columns=slice(x0, x1), rows=slice(y0, y1))
        patch = warp(pixels, matrix, reduction, (x0, y0, x1, y1))
        patch = multiply_hsv(patch, self.hsv_factors)
        cv2.copyTo(patch, inside, self.image[y0:y1, x0:x1])
        full_size = {"width": self.size, "height": self.size}
        cells: dict[int | None, tuple[slice, slice, np.ndarray]] = {}
        for stride in {self.mask_stride, self.sem_stride}:
            if stride is not None:
                cells[stride] = rasterize(outlines, **full_size, stride=stride)
        if self.sem_seg is not None:
            rows, columns, shape = cells[self.sem_stride]
            self.sem_seg[rows, columns][shape] = label
        self._boxes.append(box[None])
        self._classes.append(np.array([class_index]))
        if self.mask_stride is not None:
            rows, columns, shape = cells[self.mask_stride]
            for masks in self._masks:
                masks[:, rows, columns] &= ~shape  # what lies beneath is hidden now
            side = self.size // self.mask_stride
            mask = np.zeros((1, side, side), dtype=bool)
            mask[0, rows, columns] = shape
            self._masks.append(mask)

    def mix(self, other: "Canvas", share: float) -> None:
        """Mixup: blend with another canvas, of which the share 1 - share shows; all objects stay.

        A cell keeps its semantic label where both agree or one has nothing, else it is ignored.
        """
        cv2.addWeighted(self.image, share, other.image, 1 - share, 0, dst=self.image)
        self._boxes += other._boxes
        self._classes += other._classes
        self._masks += other._masks
        if self.sem_seg is not None and other.sem_seg is not None:
            mine, theirs = self.sem_seg, other.sem_seg
            mixed = np.where(mine == theirs, mine, np.uint8(IGNORE_LABEL))
            mixed = np.where(mine == NOTHING, theirs, mixed)
            self.sem_seg = np.where(theirs == NOTHING, mine, mixed)

    def finish(self, *, flip: bool) -> Targets:
        """The targets, cells without any image ignored; mirrored, with the image, if asked."""
        boxes = np.concatenate(self._boxes).clip(0, self.size).astype(np.float32)
        masks, sem_seg = None, None
        if self.mask_stride is not None:
            cells = self.size // self.mask_stride
            masks = np.concatenate([np.zeros((0, cells, cells), dtype=bool), *self._masks])
        if self.sem_seg is not None:
            sem_seg = np.where(self.sem_seg == NOTHING, np.uint8(IGNORE_LABEL), self.sem_seg)
        if flip:
            cv2.flip(self.image, 1, dst=self.image)
            boxes[:, [0, 2]] = self.size - boxes[:, [2, 0]]
            masks = None if masks is None else np.ascontiguousarray(masks[:, :, ::-1])
            sem_seg = None if sem_seg is None else np.ascontiguousarray(sem_seg[:, ::-1])
        return Targets(boxes, np.concatenate(self._classes), masks, sem_seg)


def is_worth_keeping(boxes: np.ndarray, full_areas: np.ndarray) -> np.ndarray:
    """(G,) bool: which boxes, cut from ones of full_areas, are large enough to learn from."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    aspect = np.maximum(width, height) / np.maximum(np.minimum(width, height), 1e-9)
    is_large = (width > MIN_SIDE) & (height > MIN_SIDE)
    return is_large & (width * height > MIN_AREA_SHARE * full_areas) & (aspect < MAX_ASPECT)


def warp(
    pixels: np.ndarray, matrix: np.ndarray, reduction: int, target: tuple[int, int, int, int]
) -> np.ndarray:
    """What a map from image to output shows in a rectangle of the output, (h, w, 3)."""
    x0, y0, x1, y1 = target
    linear, shift = matrix[:, :2] * reduction, matrix[:, 2] - [x0, y0]
    # OpenCV counts from the centre of the first pixel, we from its corner.
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
    """Rows and columns of the cells whose centres lie in a rectangle, its right border excluded."""
    x0, y0, x1, y1 = (int(np.ceil(v / stride - 0.5)) for v in target)
    return slice(y0, y1), slice(x0, x1)
