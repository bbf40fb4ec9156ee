"""Samples for the validation loss: training targets without randomness."""

from detectron2.config import CfgNode

from ...errors import ConfigError
from ...tokenizer import Tokenizer
from ..views.mapper import MultiTaskMapper
from ..views.reading import Record
from .build import TestLoader, build_multitask_mapper, make_test_loader


class PlainViews:
    """Makes training samples without augmentation: both views show the whole image.

    The caption is the first one of the record.

    Args:
        mapper: the training mapper; it is not changed.
    """

    def __init__(self, mapper: MultiTaskMapper) -> None:
        self.mapper = mapper.without_augmentation()

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
    """Build a loader for the validation loss: each image once, divided among the processes.

    Args:
        cfg: the training configuration.
        dataset_name: the test set.
        tokenizer: required for the task "caption".
        max_images: number of images, evenly spread over the data set; 0 takes all.
        batch_size: batch size per process.
    """
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        raise ConfigError(
            "TEST.LOSS_PERIOD needs INPUT.DATASET_MAPPER_NAME multitask, whose samples have targets"
        )
    mapper = build_multitask_mapper(cfg, [dataset_name], tokenizer=tokenizer)
    return make_test_loader(
        dataset_name,
        mapper=PlainViews(mapper),
        batch_size=batch_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        output_dir=cfg.OUTPUT_DIR,
        max_bad_files=cfg.DATALOADER.MAX_BAD_FILES,
        max_images=max_images,
    )
