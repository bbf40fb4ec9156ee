"""Pictures of predictions on a test set, with the annotations above."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from torch import nn
from tqdm import tqdm

from ..data import build_test_loader
from ..data.catalog.records import read_records
from ..engine.trainer import build_for_inference
from ..errors import ConfigError, DataError
from ..files import replace_file
from ..visualization import BACKGROUND, IMAGE_PANEL, PANELS, draw_panels, side_by_side, stack
from .ground_truth import record_image, true_result


def draw_test_set(cfg: CfgNode, *, number: int, threshold: float) -> int:
    """Write pictures of the first images of DATASETS.TEST[0] to OUTPUT_DIR.

    Args:
        cfg: configuration with MODEL.WEIGHTS.
        number: number of images.
        threshold: score threshold of drawn objects.

    Returns:
        The number of pictures.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: there is nothing to draw")
    model = build_for_inference(cfg)
    name = cfg.DATASETS.TEST[0]
    items = islice(chain.from_iterable(build_test_loader(cfg, name)), number)
    records = {record["file_name"]: record for record in read_records(name)}
    pictures = compare_all(
        model, items, records=records, metadata=MetadataCatalog.get(name), threshold=threshold
    )
    count = 0
    for picture in tqdm(pictures, total=min(number, len(records))):
        path = Path(cfg.OUTPUT_DIR) / f"predictions_{count:04d}.png"
        content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        replace_file(path, content.tobytes())
        count += 1
    return count


def compare_all(
    model: nn.Module,
    items: Iterable[dict[str, Any]],
    *,
    records: Mapping[str, dict[str, Any]],
    metadata: Metadata,
    threshold: float,
) -> Iterator[np.ndarray]:
    """Yield a picture per image: annotations above, predictions below.

    Args:
        model: the network, in evaluation mode.
        items: samples of a test loader.
        records: data set records by file name.
        metadata: class names and colors.
        threshold: score threshold of drawn objects.
    """
    for item in items:
        record = records[item["file_name"]]
        image = record_image(record)
        truth, found = true_result(record), model([item])[0]
        panels = [
            draw_panels(image, truth, metadata),
            draw_panels(image, found, metadata, score_threshold=threshold),
        ]
        has_caption = "caption" in truth or "caption" in found
        if not has_caption and all(list(pictures) == [IMAGE_PANEL] for pictures in panels):
            raise DataError("there is nothing to draw: neither captions nor class names")
        yield compare(*panels)


def compare(truth: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Arrange pictures in two rows, one column per kind; missing pictures are gaps."""
    kinds = [kind for kind in (IMAGE_PANEL, *PANELS) if kind in truth or kind in found]
    width = next(iter((found or truth).values())).shape[1]
    gap = np.full((1, width, 3), BACKGROUND, dtype=np.uint8)
    rows = []
    for name, pictures in (("true", truth), ("predicted", found)):
        titles = [f"{name}: {kind}" if kind in pictures else "" for kind in kinds]
        rows.append(side_by_side([pictures.get(kind, gap) for kind in kinds], titles=titles))
    return stack(rows)
