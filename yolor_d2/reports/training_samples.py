"""Training samples with all targets, and the annotations of their images."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..data import build_tokenizer, build_train_loader
from ..data.catalog.records import read_records
from ..errors import ConfigError
from ..visualization import draw_panels, sample_pictures
from .ground_truth import record_image, true_result
from .html_page import Figure, Section

NOTE = (
    "Samples of the training loader with all targets, and the annotations of each sample's image. "
    "Uncolored areas of a map are ignored in training."
)


def draw_samples(cfg: CfgNode, number: int) -> Iterator[Section]:
    """Yield a section per sample for the first samples of the training loader."""
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        raise ConfigError(
            "INPUT.DATASET_MAPPER_NAME must be multitask: other mappers have no views"
        )
    tokenizer = build_tokenizer(cfg) if "caption" in cfg.MODEL.YOLOR.TASKS else None
    records = {
        record["file_name"]: (record, MetadataCatalog.get(name))
        for name in cfg.DATASETS.TRAIN
        for record in read_records(name)
    }
    loader = build_train_loader(cfg, tokenizer=tokenizer)
    items = itertools.islice(itertools.chain.from_iterable(loader), number)
    for position, item in enumerate(items, start=1):
        record, metadata = records[item["file_name"]]
        views = sample_pictures(item, metadata, tokenizer, image_format=cfg.INPUT.FORMAT)
        image, truth = record_image(record), true_result(record)
        kinds = draw_panels(image, truth, metadata)
        pictures = views | {f"annotations: {kind}": picture for kind, picture in kinds.items()}
        figures = [Figure(picture, title) for title, picture in pictures.items()]
        yield Section(f"sample {position}: {Path(record['file_name']).name}", figures)
