"""Test images with the targets of training, and nothing random about them."""

import copy

from detectron2.config import CfgNode

from ...tokenizer import Tokenizer
from ..views.mapper import MultiTaskMapper
from ..views.reading import Record, RecordReader
from ..views.strong_view import StrongView
from ..views.transforms import ViewPolicy
from .build import TestLoader, make_test_loader, shared_classes

UNMOVED = ViewPolicy(scale=0.0, translate=0.0, degrees=0.0, shear=0.0)


class PlainViews:
    """What a mapper makes of a record in training, without augmentation and with one caption.

    Both views show the whole image; its caption is the first one.

    Args:
        mapper: of the training; it is not changed.
    """

    def __init__(self, mapper: MultiTaskMapper) -> None:
        strong = mapper.strong_view
        plain = copy.copy(mapper)
        plain.bad_files = None  # whoever asks for a sample is told
        plain.reader = RecordReader(num_sem_seg_classes=mapper.reader.num_sem_seg_classes)
        plain.strong_view = StrongView(
            strong.policy._replace(
                mosaic=0.0, copy_paste=0.0, mixup=0.0, view=UNMOVED, hsv=(0.0, 0.0, 0.0), flip=0.0
            ),
            reader=plain.reader,
            mask_stride=strong.mask_stride,
            sem_seg_stride=strong.sem_seg_stride,
            report_bad=plain.report_bad,
        )
        self.mapper = plain

    def __call__(self, record: Record) -> Record:
        if record.get("captions"):
            record = {**record, "captions": record["captions"][:1]}
        return self.mapper(record)


def build_validation_loader(
    cfg: CfgNode,
    dataset_name: str,
    *,
    tokenizer: Tokenizer | None = None,
    max_images: int = 0,
    batch_size: int = 1,
) -> TestLoader:
    """Samples to measure losses on: each image once, each process its part.

    Args:
        cfg: of the training.
        dataset_name: of the test set.
        tokenizer: for the task "caption".
        max_images: so many of the images, evenly spread; 0: all.
        batch_size: of each process.
    """
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        raise ValueError(
            "TEST.LOSS_PERIOD needs INPUT.DATASET_MAPPER_NAME multitask, whose samples have targets"
        )
    classes = shared_classes([dataset_name], "stuff_classes", where="sem_seg_root")
    mapper = MultiTaskMapper(
        cfg,
        is_train=True,
        tokenizer=tokenizer,
        num_sem_seg_classes=len(classes) if classes else None,
    )
    return make_test_loader(
        dataset_name,
        mapper=PlainViews(mapper),
        batch_size=batch_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        output_dir=cfg.OUTPUT_DIR,
        max_bad_files=cfg.DATALOADER.MAX_BAD_FILES,
        max_images=max_images,
    )
