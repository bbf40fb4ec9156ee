"""From a data set dict to what the model is fed: the views and targets that some task asks for.

A target that a record does not have is missing in its sample, never an empty one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import BitMasks, Boxes, Instances
from torch.nn.utils.rnn import pad_sequence

from ...tasks import check_tasks
from ...tokenizer import Tokenizer
from ..catalog.categories import IGNORE_LABEL
from ..errors import BadFileError
from ..files.images import BadFiles
from .reading import Record, RecordReader
from .strong_view import PUBLISHED, Draw, StrongPolicy, StrongView, check_policy
from .targets import move_boxes, move_outlines, rasterize_all
from .transforms import ViewPolicy, resize_long_side, to_planes


def known_targets(record: Record) -> frozenset[str]:
    """The tasks that can learn from a record.

    Masks count as known when every object has one; `has_masks` decides for a record without
    objects.
    """
    known = set()
    if "annotations" in record:
        known.add("detection")
        if record.get("has_masks", all("segmentation" in a for a in record["annotations"])):
            known.add("mask")
    if "sem_seg_file_name" in record:
        known.add("semantic")
    if record.get("captions"):
        known.add("caption")
    return frozenset(known)


class MultiTaskMapper:
    """One training sample or test image from a data set dict.

    Called with a record alone it makes no mosaic, so that detectron2's own loaders can use it too.
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
        mask_stride: int = 4,
        sem_seg_stride: int = 4,
        num_sem_seg_classes: int | None = None,
        tokenizer: Tokenizer | None = None,
        max_caption_tokens: int = 40,
        captions_per_image: int = 1,
        cache_bytes: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        """
        Args:
            is_train: make views and targets; else resize the image and keep the record's fields.
            tasks: what is trained, some of `yolor_d2.tasks.TASKS`.
            weak_view_tasks: those of them that read the weak view; the others read the strong one.
            strong: the strong view.
            weak_size, test_size: the long side after resizing.
            image_format: "RGB" or "BGR".
            mask_stride, sem_seg_stride: of the targets; 1 for heads that expect full size.
            num_sem_seg_classes: of the semantic maps; None leaves their labels unchecked.
            tokenizer: needed for the task "caption".
            max_caption_tokens: longer captions are cut, begin and end included.
            captions_per_image: drawn at random each time; 0: all that there are.
            cache_bytes: memory for decoded images and maps, in each worker.
            bad_files: lists files that cannot be used; None lets the first one stop the run.
        """
        check_tasks(tasks, weak_view_tasks)
        check_policy(strong, strides=(mask_stride, sem_seg_stride))
        check_input((weak_size, test_size), image_format, captions_per_image)
        if is_train and "caption" in tasks and tokenizer is None:
            raise ValueError('MODEL.YOLOR.TASKS has "caption": the mapper needs a tokenizer')
        self.is_train = is_train
        self.weak_tasks = frozenset(tasks) & frozenset(weak_view_tasks)
        self.strong_tasks = frozenset(tasks) - self.weak_tasks
        self.weak_size = weak_size
        self.test_size = test_size
        self.image_format = image_format
        self.mask_stride = mask_stride
        self.sem_seg_stride = sem_seg_stride
        self.tokenizer = tokenizer
        self.max_caption_tokens = max_caption_tokens
        self.captions_per_image = captions_per_image
        self.bad_files = bad_files
        self.reader = RecordReader(cache_bytes=cache_bytes, num_sem_seg_classes=num_sem_seg_classes)
        self.strong_view = StrongView(
            strong,
            reader=self.reader,
            mask_stride=mask_stride,
            sem_seg_stride=sem_seg_stride,
            report_bad=self.report_bad,
        )

    @property
    def tasks(self) -> frozenset[str]:
        return self.weak_tasks | self.strong_tasks

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        is_train: bool,
        *,
        tokenizer: Tokenizer | None = None,
        num_sem_seg_classes: int | None = None,
        bad_files: BadFiles | None = None,
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
            ),
            "weak_size": cfg.INPUT.WEAK.SIZE,
            "test_size": cfg.INPUT.TEST_SIZE,
            "image_format": cfg.INPUT.FORMAT,
            "mask_stride": cfg.INPUT.MASK_STRIDE,
            "sem_seg_stride": cfg.INPUT.SEM_SEG_STRIDE,
            "num_sem_seg_classes": num_sem_seg_classes,
            "tokenizer": tokenizer,
            "max_caption_tokens": cfg.TOKENIZER.MAX_TOKENS,
            "captions_per_image": cfg.INPUT.CAPTIONS_PER_IMAGE,
            "cache_bytes": cfg.DATALOADER.IMAGE_CACHE_MB << 20,
            "bad_files": bad_files,
        }

    def __call__(self, record: Record, draw: Draw | None = None) -> Record:
        """
        Args:
            record: a data set dict; it is not changed.
            draw: the sample's randomness and its partners; by default fresh, and no mosaic.

        Returns:
            In training: file_name, image_id, height, width; image (3, S, S) uint8 when some task
            reads the strong view, weak_image (3, h, w) when some task reads the weak one; and the
            targets that are asked for and known: instances (gt_boxes, gt_classes, gt_masks at
            stride), sem_seg (S / stride, S / stride) int64, weak_instances, weak_sem_seg,
            caption_ids (K, T) int64.
            Else: the record without annotations, and image (3, h, w) uint8.

        Raises:
            BadFileError: the record's own file cannot be used. A partner's is reported and
            replaced.
        """
        self.reader.start_sample()
        if not self.is_train:
            return self._test_item(record)
        draw = draw or Draw(np.random.default_rng(), lambda rng: record, mosaic=False)
        known = known_targets(record)
        item = {k: record[k] for k in ("file_name", "image_id", "height", "width")}
        if "caption" in self.tasks & known:
            item["caption_ids"] = self._caption_ids(record, draw.rng)
        if self.strong_tasks:
            item.update(self._strong_items(record, draw, known & self.strong_tasks))
        if self.weak_tasks:
            item.update(self._weak_items(record, known & self.weak_tasks))
        return item

    def report_bad(self, error: BadFileError) -> None:
        """List a file that cannot be used, or stop if nobody keeps a list."""
        if self.bad_files is None:
            raise error
        self.bad_files.report(error)

    def _caption_ids(self, record: Record, rng: np.random.Generator) -> torch.Tensor:
        tokenizer = self.tokenizer
        assert tokenizer is not None
        captions = record["captions"]
        number = min(self.captions_per_image or len(captions), len(captions))
        chosen = rng.choice(len(captions), number, replace=False)
        texts = [
            torch.tensor(tokenizer.encode(captions[index], max_length=self.max_caption_tokens))
            for index in sorted(chosen)
        ]
        return pad_sequence(texts, batch_first=True, padding_value=tokenizer.pad_id)

    def _strong_items(self, record: Record, draw: Draw, targets: frozenset[str]) -> Record:
        image, made = self.strong_view(record, draw, targets - {"caption"})
        item: Record = {"image": self._to_tensor(image)}
        if "detection" in targets:
            size = (image.shape[0], image.shape[1])
            item["instances"] = _instances(size, made.boxes, made.classes, made.masks)
        if made.sem_seg is not None:
            item["sem_seg"] = torch.from_numpy(made.sem_seg.astype(np.int64))
        return item

    def _weak_items(self, record: Record, targets: frozenset[str]) -> Record:
        pixels = self.reader.pixels(record)  # (height, width, 3)
        resized = resize_long_side(pixels, self.weak_size)  # (h, w, 3)
        height, width = resized.shape[:2]
        matrix = np.diag([width / record["width"], height / record["height"], 1.0])[:2]
        item: Record = {"weak_image": self._to_tensor(resized)}
        if "detection" in targets:
            objects = self.reader.objects(record)
            masks = None
            if "mask" in targets:
                stride = self.mask_stride
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
            labels = _sample_labels(
                self.reader.labels(record), width=width, height=height, stride=self.sem_seg_stride
            )
            item["weak_sem_seg"] = torch.from_numpy(labels.astype(np.int64))
        return item

    def _test_item(self, record: Record) -> Record:
        item = {k: v for k, v in record.items() if k != "annotations"}
        item["image"] = make_test_image(
            self.reader.pixels(record), size=self.test_size, image_format=self.image_format
        )
        return item

    def _to_tensor(self, image: np.ndarray) -> torch.Tensor:
        return _as_tensor(image, self.image_format)


def make_test_image(pixels: np.ndarray, *, size: int, image_format: str) -> torch.Tensor:
    """What a network is fed at inference, uint8 (3, h, w).

    Args:
        pixels: uint8 RGB (H, W, 3).
        size: of the long side.
        image_format: "RGB" or "BGR".
    """
    return _as_tensor(resize_long_side(pixels, size), image_format)


def _as_tensor(image: np.ndarray, image_format: str) -> torch.Tensor:
    planes = to_planes(image)  # (3, H, W)
    return torch.from_numpy(planes if image_format == "RGB" else planes[::-1].copy())


def check_input(sizes: Sequence[int], image_format: str, captions_per_image: int) -> None:
    """A ValueError that names the key when they make no sense."""
    if min(sizes) <= 0:
        raise ValueError("INPUT.WEAK.SIZE and INPUT.TEST_SIZE must be positive")
    if image_format not in ("RGB", "BGR"):
        raise ValueError(f"INPUT.FORMAT must be RGB or BGR, not {image_format}")
    if captions_per_image < 0:
        raise ValueError(f"INPUT.CAPTIONS_PER_IMAGE is {captions_per_image}; it must be at least 0")


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
    """The labels below the centres of a resized image's cells; beyond its border, IGNORE_LABEL."""
    rows = ((np.arange(-(-height // stride)) + 0.5) * stride * labels.shape[0] / height).astype(int)
    columns = ((np.arange(-(-width // stride)) + 0.5) * stride * labels.shape[1] / width).astype(
        int
    )
    padded = np.pad(labels, ((0, 1), (0, 1)), constant_values=IGNORE_LABEL)
    return padded[np.minimum(rows, labels.shape[0])[:, None], np.minimum(columns, labels.shape[1])]
