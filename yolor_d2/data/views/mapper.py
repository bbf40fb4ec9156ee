"""Mapping data set dicts to samples: the views and targets that the tasks read.

A target that a record does not have is missing from its sample, never empty.
"""

import copy
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import BitMasks, Boxes, Instances
from torch.nn.utils.rnn import pad_sequence

from ...errors import ConfigError
from ...tasks import check_tasks
from ...tokenizer import Tokenizer
from ..catalog.categories import IGNORE_LABEL
from .reading import Record, RecordReader
from .strong_view import PUBLISHED, Draw, StrongPolicy, StrongView, check_policy
from .targets import TargetStrides, move_boxes, move_outlines, rasterize_all
from .transforms import ViewPolicy, resize_long_side, to_planes


def known_targets(record: Record) -> frozenset[str]:
    """Return the tasks for which a record has targets.

    Masks count as known if every object has one; a record's `has_masks` takes precedence.
    """
    known = {"detection", "mask", "semantic"} if record.get("from_panoptic") else set()
    if "annotations" in record:
        known.add("detection")
        if record.get("has_masks", all("segmentation" in a for a in record["annotations"])):
            known.add("mask")
    if "sem_seg_file_name" in record:
        known.add("semantic")
    if record.get("captions"):
        known.add("caption")
    return frozenset(known)


class CaptionOptions(NamedTuple):
    """Captions of a training sample.

    Attributes:
        max_tokens: longer captions are cut, begin and end tokens included.
        per_image: number of captions drawn at random for each sample; 0 takes all of an image.
    """

    max_tokens: int = 40
    per_image: int = 1


STRIDES = TargetStrides()
ONE_CAPTION = CaptionOptions()


class MultiTaskMapper:
    """Makes a training sample or a test image from a data set dict.

    Called with only a record it makes no mosaic, so that detectron2's own loaders can use it.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        tasks: Sequence[str],
        weak_view_tasks: Sequence[str] = ("caption",),
        strong: StrongPolicy = PUBLISHED,
        weak_size: int = 640,
        test_size: int = 640,
        image_format: str = "RGB",
        strides: TargetStrides = STRIDES,
        num_sem_seg_classes: int | None = None,
        tokenizer: Tokenizer | None = None,
        captions: CaptionOptions = ONE_CAPTION,
        cache_bytes: int = 0,
    ) -> None:
        """
        Args:
            is_train: make views and targets; otherwise resize the image and keep the record's
                fields.
            tasks: the trained tasks, of `yolor_d2.tasks.TASKS`.
            weak_view_tasks: tasks that read the weak view; the others read the strong view.
            strong: settings of the strong view.
            weak_size, test_size: long side after resizing, in pixels.
            image_format: "RGB" or "BGR".
            strides: strides of masks and semantic maps.
            num_sem_seg_classes: classes of the semantic maps; None disables the check of labels.
            tokenizer: required for the task "caption".
            captions: number and length of captions.
            cache_bytes: size of the cache of decoded images and maps, per worker.
        """
        check_tasks(tasks, weak_view_tasks)
        check_policy(strong, strides=strides)
        check_input((weak_size, test_size), image_format, captions.per_image)
        if is_train and "caption" in tasks and tokenizer is None:
            raise ConfigError('MODEL.YOLOR.TASKS has "caption": the mapper needs a tokenizer')
        self.is_train = is_train
        self.weak_tasks = frozenset(tasks) & frozenset(weak_view_tasks)
        self.strong_tasks = frozenset(tasks) - self.weak_tasks
        self.weak_size = weak_size
        self.test_size = test_size
        self.image_format = image_format
        self.strides = strides
        self.tokenizer = tokenizer
        self.captions = captions
        self.reader = RecordReader(cache_bytes=cache_bytes, num_sem_seg_classes=num_sem_seg_classes)
        self.strong_view = StrongView(strong, reader=self.reader, strides=strides)

    @property
    def tasks(self) -> frozenset[str]:
        return self.weak_tasks | self.strong_tasks

    @property
    def shares_files(self) -> bool:
        """Whether mosaics are made of images of the same batch."""
        return self.strong_view.policy.partners == "batch"

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        is_train: bool,
        *,
        tokenizer: Tokenizer | None = None,
        num_sem_seg_classes: int | None = None,
    ) -> dict[str, Any]:
        strong = cfg.INPUT.STRONG
        return {
            "is_train": is_train,
            "tasks": cfg.MODEL.YOLOR.TASKS,
            "weak_view_tasks": cfg.INPUT.WEAK_VIEW_TASKS,
            "strong": StrongPolicy(
                size=strong.SIZE,
                mosaic=strong.MOSAIC,
                copy_paste=strong.COPY_PASTE,
                mixup=strong.MIXUP,
                view=ViewPolicy(strong.SCALE, strong.TRANSLATE, strong.DEGREES, strong.SHEAR),
                hsv=tuple(strong.HSV),
                flip=strong.FLIP,
                partners=strong.PARTNERS,
            ),
            "weak_size": cfg.INPUT.WEAK.SIZE,
            "test_size": cfg.INPUT.TEST_SIZE,
            "image_format": cfg.INPUT.FORMAT,
            "strides": TargetStrides(cfg.INPUT.MASK_STRIDE, cfg.INPUT.SEM_SEG_STRIDE),
            "num_sem_seg_classes": num_sem_seg_classes,
            "tokenizer": tokenizer,
            "captions": CaptionOptions(cfg.TOKENIZER.MAX_TOKENS, cfg.INPUT.CAPTIONS_PER_IMAGE),
            "cache_bytes": cfg.DATALOADER.IMAGE_CACHE_MB << 20,
        }

    def without_augmentation(self) -> "MultiTaskMapper":
        """Return a mapper whose strong view shows the whole image, unchanged; without a cache."""
        plain = copy.copy(self)
        plain.reader = RecordReader(num_sem_seg_classes=self.reader.num_sem_seg_classes)
        plain.strong_view = StrongView(
            self.strong_view.policy.without_augmentation(),
            reader=plain.reader,
            strides=self.strides,
        )
        return plain

    def __call__(self, record: Record, draw: Draw | None = None) -> Record:
        """
        Args:
            record: a data set dict; it is not changed.
            draw: the sample's randomness and partners; None uses a fresh generator and no mosaic.

        Returns:
            If not `is_train`: the record without annotations, and "image", uint8 (3, h, w).
            Else a sample with the views that some task reads, and the targets that some task reads
            and the record has:

            - "file_name", "image_id", "height", "width": those of the record.
            - "image": the strong view, uint8 (3, S, S).
            - "instances": its objects, `Instances` with gt_boxes and gt_classes; with the task
              "mask" also gt_masks (G, S / mask_stride, S / mask_stride).
            - "sem_seg": its labels, int64 (S / sem_seg_stride, S / sem_seg_stride).
            - "mask_stride", "sem_seg_stride": strides of the targets, present with gt_masks and
              "sem_seg" respectively.
            - "weak_image": the weak view, uint8 (3, h, w).
            - "weak_instances", "weak_sem_seg", "weak_mask_stride", "weak_sem_seg_stride": the same
              for the weak view, with sizes rounded up.
            - "caption_ids": tokens of K captions, int64 (K, T), padded.
            - "labeled_classes": classes whose objects are labeled in both views, bool (C,); missing
              if these are all classes.

        Raises:
            BadFileError: the record's own file cannot be used. Unusable files of partners are
                reported and the partners replaced.
        """
        self.reader.start_sample(draw.batch if draw else ())
        if not self.is_train:
            return self._test_item(record)
        draw = draw or Draw(np.random.default_rng(), itertools.repeat(record), mosaic=False)
        known = known_targets(record)
        item = {k: record[k] for k in ("file_name", "image_id", "height", "width")}
        if "labeled_classes" in record and "detection" in self.tasks & known:
            item["labeled_classes"] = torch.tensor(record["labeled_classes"])
        if "caption" in self.tasks & known:
            item["caption_ids"] = self._caption_ids(record, draw.rng)
        if self.strong_tasks:
            item.update(self._strong_items(record, draw, known & self.strong_tasks))
        if self.weak_tasks:
            item.update(self._weak_items(record, known & self.weak_tasks))
        return item

    def _caption_ids(self, record: Record, rng: np.random.Generator) -> torch.Tensor:
        tokenizer = self.tokenizer
        assert tokenizer is not None
        captions = record["captions"]
        number = min(self.captions.per_image or len(captions), len(captions))
        chosen = rng.choice(len(captions), number, replace=False)
        texts = [
            torch.tensor(tokenizer.encode(captions[index], max_length=self.captions.max_tokens))
            for index in sorted(chosen)
        ]
        return pad_sequence(texts, batch_first=True, padding_value=tokenizer.pad_id)

    def _strong_items(self, record: Record, draw: Draw, targets: frozenset[str]) -> Record:
        image, made = self.strong_view(record, draw, targets - {"caption"})
        item: Record = {"image": _as_tensor(image, self.image_format)}
        if "detection" in targets:
            size = (image.shape[0], image.shape[1])
            item["instances"] = _instances(size, made.boxes, made.classes, made.masks)
        if made.masks is not None:
            item["mask_stride"] = self.strides.mask
        if made.sem_seg is not None:
            item["sem_seg"] = torch.from_numpy(made.sem_seg.astype(np.int64))
            item["sem_seg_stride"] = self.strides.sem_seg
        return item

    def _weak_items(self, record: Record, targets: frozenset[str]) -> Record:
        pixels = self.strong_view.pixels(record)  # (height, width, 3)
        resized = resize_long_side(pixels, self.weak_size)  # (h, w, 3)
        height, width = resized.shape[:2]
        matrix = np.diag([width / record["width"], height / record["height"], 1.0])[:2]
        item: Record = {"weak_image": _as_tensor(resized, self.image_format)}
        if "detection" in targets:
            objects = self.reader.objects(record)
            masks = None
            if "mask" in targets:
                stride = item["weak_mask_stride"] = self.strides.mask
                rows, columns = -(-height // stride), -(-width // stride)
                shapes = [
                    move_outlines(objects.outlines(index), matrix)
                    for index in range(len(objects.classes))
                ]
                masks = rasterize_all(
                    shapes, width=columns * stride, height=rows * stride, stride=stride
                )
            boxes = move_boxes(objects.boxes, matrix)
            item["weak_instances"] = _instances((height, width), boxes, objects.classes, masks)
        if "semantic" in targets:
            stride = item["weak_sem_seg_stride"] = self.strides.sem_seg
            labels = _sample_labels(
                self.reader.labels(record), width=width, height=height, stride=stride
            )
            item["weak_sem_seg"] = torch.from_numpy(labels.astype(np.int64))
        return item

    def _test_item(self, record: Record) -> Record:
        item = {k: v for k, v in record.items() if k != "annotations"}
        item["image"] = make_test_image(
            self.reader.pixels(record), size=self.test_size, image_format=self.image_format
        )
        return item


def make_test_image(pixels: np.ndarray, *, size: int, image_format: str) -> torch.Tensor:
    """Return the network's input at inference, uint8 (3, h, w).

    Args:
        pixels: uint8 RGB (H, W, 3).
        size: long side in pixels.
        image_format: "RGB" or "BGR".
    """
    return _as_tensor(resize_long_side(pixels, size), image_format)


def _as_tensor(image: np.ndarray, image_format: str) -> torch.Tensor:
    return torch.from_numpy(to_planes(image, reverse=image_format == "BGR"))  # (3, H, W)


def check_input(sizes: Sequence[int], image_format: str, captions_per_image: int) -> None:
    """Raise a ValueError that names the key of an invalid value."""
    if min(sizes) <= 0:
        raise ConfigError("INPUT.WEAK.SIZE and INPUT.TEST_SIZE must be positive")
    if image_format not in ("RGB", "BGR"):
        raise ConfigError(f"INPUT.FORMAT must be RGB or BGR, not {image_format}")
    if captions_per_image < 0:
        raise ConfigError(
            f"INPUT.CAPTIONS_PER_IMAGE is {captions_per_image}; it must be at least 0"
        )


def _instances(
    size: tuple[int, int], boxes: np.ndarray, classes: np.ndarray, masks: np.ndarray | None
) -> Instances:
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.from_numpy(boxes.astype(np.float32)))
    instances.gt_classes = torch.from_numpy(classes)
    if masks is not None:
        instances.gt_masks = BitMasks(torch.from_numpy(masks))
    return instances


def _sample_labels(labels: np.ndarray, *, width: int, height: int, stride: int) -> np.ndarray:
    """Return the labels under the centers of a resized image's cells; outside, IGNORE_LABEL."""
    rows = ((np.arange(-(-height // stride)) + 0.5) * stride * labels.shape[0] / height).astype(int)
    columns = ((np.arange(-(-width // stride)) + 0.5) * stride * labels.shape[1] / width).astype(
        int
    )
    padded = np.pad(labels, ((0, 1), (0, 1)), constant_values=IGNORE_LABEL)
    return padded[np.minimum(rows, labels.shape[0])[:, None], np.minimum(columns, labels.shape[1])]
