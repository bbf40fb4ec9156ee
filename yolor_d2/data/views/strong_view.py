"""The strong view: mosaic, random affine, copy-paste, mixup, flip, color.

The samples of a seed depend on the order of random draws: do not change it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ...errors import BadFileError, ConfigError
from ..catalog.categories import IGNORE_LABEL
from .canvas import Canvas, Targets, is_worth_keeping
from .mosaic import (
    Placement,
    choose_pastes,
    place_centered,
    place_in_mosaic,
    reduction_at,
    reduction_for,
    visible_window,
)
from .reading import Record, RecordReader
from .targets import (
    Objects,
    Outline,
    TargetStrides,
    box_areas,
    clip_boxes,
    clip_outlines,
    move_boxes,
    move_outlines,
    outline_extent,
    rasterize,
)
from .transforms import ViewPolicy, compose, random_hsv_factors, random_view


class StrongPolicy(NamedTuple):
    """Settings of the strong view, of INPUT.STRONG; the defaults are the published ones."""

    size: int = 640
    mosaic: float = 1.0
    copy_paste: float = 0.3
    mixup: float = 0.15
    view: ViewPolicy = ViewPolicy()
    hsv: tuple[float, float, float] = (0.015, 0.7, 0.4)
    flip: float = 0.5
    partners: str = "dataset"

    def without_augmentation(self) -> "StrongPolicy":
        """Return a policy that shows the whole image, unchanged, in the center of the view."""
        return StrongPolicy(
            size=self.size,
            mosaic=0.0,
            copy_paste=0.0,
            mixup=0.0,
            view=ViewPolicy(scale=0.0, translate=0.0, degrees=0.0, shear=0.0),
            hsv=(0.0, 0.0, 0.0),
            flip=0.0,
        )


PUBLISHED = StrongPolicy()
PARTNERS = ("dataset", "batch")


def check_policy(policy: StrongPolicy, *, strides: Sequence[int]) -> None:
    """Raise a ValueError that names the key of an invalid value."""
    if policy.size <= 0 or any(policy.size % stride for stride in strides):
        raise ConfigError(
            f"INPUT.STRONG.SIZE {policy.size} is not a multiple of the strides of the targets, "
            f"{' and '.join(str(stride) for stride in strides)}"
        )
    if policy.partners not in PARTNERS:
        raise ConfigError(
            f"INPUT.STRONG.PARTNERS must be {' or '.join(PARTNERS)}, not {policy.partners}"
        )
    limits = {
        "MOSAIC": (policy.mosaic, 1),
        "COPY_PASTE": (policy.copy_paste, 1),
        "MIXUP": (policy.mixup, 1),
        "FLIP": (policy.flip, 1),
        "SCALE": (policy.view.scale, 0.99),  # at 1 the image could vanish
        "TRANSLATE": (policy.view.translate, 0.5),
        "HSV[0]": (policy.hsv[0], 0.4),  # OpenCV's hue, at most 179, must stay below 256
        "HSV[1]": (policy.hsv[1], 1),
        "HSV[2]": (policy.hsv[2], 1),
    }
    for key, (value, limit) in limits.items():
        if not 0 <= value <= limit:
            raise ConfigError(f"INPUT.STRONG.{key} must be between 0 and {limit}, not {value}")


def raise_bad_file(error: BadFileError) -> None:
    """Stop at the first partner whose file cannot be used."""
    raise error


class Draw(NamedTuple):
    """Inputs of a sample besides its own record.

    Attributes:
        rng: source of all randomness of the sample.
        partners: other records, without end, that have at least the same targets.
        mosaic: whether mosaics are enabled at this point of the run.
        report_bad: called if the file of a partner cannot be used; the partner is then replaced.
        batch: images of the batch, if the partners are among them; decoded files are kept until a
            sample of another batch.
    """

    rng: np.random.Generator
    partners: Iterator[Record]
    mosaic: bool
    report_bad: Callable[[BadFileError], None] = raise_bad_file
    batch: tuple[int, ...] = ()


class _Tile(NamedTuple):
    """One image of a mosaic."""

    record: Record
    placement: Placement
    objects: Objects | None


class StrongView:
    """Makes strong views.

    Args:
        policy: probabilities and ranges of the augmentations.
        reader: reads the records' files.
        strides: strides of the targets.
    """

    def __init__(
        self,
        policy: StrongPolicy,
        *,
        reader: RecordReader,
        strides: TargetStrides,
    ) -> None:
        self.policy = policy
        self.reader = reader
        self.strides = strides

    def __call__(
        self, record: Record, draw: Draw, targets: frozenset[str]
    ) -> tuple[np.ndarray, Targets]:
        """
        Args:
            record: the image of the sample.
            draw: its randomness and its partners.
            targets: the tasks of "detection", "mask" and "semantic" that read this view and for
                which the record, and so its partners, have targets.

        Returns:
            The image, uint8 RGB (size, size, 3), and its targets.

        Raises:
            BadFileError: the record's own file cannot be used.
        """
        rng, policy = draw.rng, self.policy
        canvas = Canvas(
            size=policy.size,
            mask_stride=self.strides.mask if "mask" in targets else None,
            sem_seg_stride=self.strides.sem_seg if "semantic" in targets else None,
            hsv_factors=random_hsv_factors(rng, policy.hsv),
        )
        if draw.mosaic and rng.random() < policy.mosaic:
            self._mosaic(canvas, record, draw, targets)
            if rng.random() < policy.mixup:
                other = canvas.empty_copy()
                self._mosaic(other, None, draw, targets)
                canvas.mix(other, rng.beta(32, 32))
        else:
            self._single(canvas, record, rng, targets)
        finished = canvas.finish(flip=rng.random() < policy.flip)
        return canvas.image, finished

    def _single(
        self, canvas: Canvas, record: Record, rng: np.random.Generator, targets: frozenset[str]
    ) -> None:
        """Paint one image in the center."""
        size = self.policy.size
        view = random_view(rng, self.policy.view, canvas_size=size, size=size)
        placement = place_centered(width=record["width"], height=record["height"], tile_size=size)
        self._add_image(canvas, record, placement, view, targets)

    def _mosaic(
        self, canvas: Canvas, first: Record | None, draw: Draw, targets: frozenset[str]
    ) -> None:
        """Paint four images around a point; without `first`, all of them are partners."""
        rng, size = draw.rng, self.policy.size
        center = rng.uniform(size / 2, 3 * size / 2, size=2)
        view = random_view(rng, self.policy.view, canvas_size=2 * size, size=size)
        tiles = []
        for position in range(4):
            record = first if first is not None and position == 0 else next(draw.partners)
            while True:
                placement = place_in_mosaic(
                    width=record["width"],
                    height=record["height"],
                    position=position,
                    center=center,
                    tile_size=size,
                )
                try:
                    tiles.append(self._add_image(canvas, record, placement, view, targets))
                    break
                except BadFileError as error:
                    if record is first:
                        raise
                    draw.report_bad(error)
                    record = next(draw.partners)
        if "mask" in targets and self.policy.copy_paste > 0:
            self._copy_paste(canvas, tiles, view, draw)

    def _add_image(
        self,
        canvas: Canvas,
        record: Record,
        placement: Placement,
        view: np.ndarray,
        targets: frozenset[str],
    ) -> _Tile:
        """Add an image and its objects, as far as visible; invisible images are not read."""
        objects = self.reader.objects(record) if "detection" in targets else None
        window = visible_window(placement, view, size=self.policy.size)
        if window is not None:
            labels = self.reader.labels(record) if "semantic" in targets else None
            pixels = self.pixels(record, reduction=window.reduction)
            canvas.paint(window, pixels, labels)
            if objects is not None:
                canvas.add(objects, window)
        return _Tile(record, placement, objects)

    def pixels(self, record: Record, *, reduction: int = 1) -> np.ndarray:
        """Read an image; samples of a batch share one that suffices for the largest zoom."""
        zoom = (1 + self.policy.view.scale) * self.policy.size
        shared = reduction_at(zoom / max(record["width"], record["height"]))
        return self.reader.pixels(record, reduction=reduction, shared_reduction=shared)

    def _copy_paste(self, canvas: Canvas, tiles: list[_Tile], view: np.ndarray, draw: Draw) -> None:
        """Paste mirrored copies of some objects of a mosaic."""
        side = 2 * self.policy.size
        sources = [(t, i) for t in tiles if t.objects for i in range(len(t.objects.classes))]
        boxes = np.concatenate(
            [
                move_boxes(clip_boxes(t.objects.boxes, t.placement.region), t.placement.matrix)
                for t in tiles
                if t.objects
            ]
        )
        chosen = choose_pastes(boxes, side=side, share=self.policy.copy_paste, rng=draw.rng)
        view = compose(view, np.array([[-1.0, 0, side], [0, 1, 0]]))
        output = (0, 0, self.policy.size, self.policy.size)
        whole = move_boxes(boxes[chosen], view)
        full_areas = box_areas(whole)
        shown = np.flatnonzero(is_worth_keeping(clip_boxes(whole, output), full_areas))
        for k in shown.tolist():
            tile, index = sources[chosen[k]]
            matrix = compose(view, tile.placement.matrix)
            try:
                self._paste(canvas, tile, index, matrix, full_areas[k : k + 1])
            except BadFileError as error:  # of an image that is not visible itself
                draw.report_bad(error)

    def _paste(
        self, canvas: Canvas, tile: _Tile, index: int, matrix: np.ndarray, full_area: np.ndarray
    ) -> None:
        """Paste one object if enough of it is visible."""
        assert tile.objects is not None
        in_image = clip_outlines(tile.objects.outlines(index), tile.placement.region)
        outlines = move_outlines(in_image, matrix)
        outlines = clip_outlines(outlines, (0, 0, self.policy.size, self.policy.size))
        box = outline_extent(outlines)
        if not is_worth_keeping(box[None], full_area)[0]:
            return
        reduction = reduction_for(matrix)
        pixels = self.pixels(tile.record, reduction=reduction)
        label = None
        if canvas.sem_seg is not None:
            label = most_frequent_label(self.reader.labels(tile.record), in_image)
        class_index = int(tile.objects.classes[index])
        canvas.paste(
            outlines,
            box,
            class_index,
            pixels=pixels,
            label=label,
            matrix=matrix,
            reduction=reduction,
        )


def most_frequent_label(labels: np.ndarray, outlines: list[Outline]) -> int:
    """Return an object's label in a semantic map, whose classes may differ from those of boxes."""
    height, width = labels.shape
    rows, columns, shape = rasterize(outlines, width=width, height=height, stride=1)
    window = labels[rows, columns]
    if not window.size:
        return IGNORE_LABEL
    counts = cv2.calcHist([window], [0], shape.view(np.uint8), [256], [0, 256])
    return int(counts.argmax())
