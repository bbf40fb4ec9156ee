"""Pictures of what a model finds, below what is true: boxes, masks, semantic, panoptic, captions.

python -m yolor_d2.tools.draw_predictions --config-file FILE --output DIR [--number N]
    [--score-threshold S] MODEL.WEIGHTS FILE [KEY VALUE ...]
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn
from tqdm import tqdm

from yolor_d2.data import build_test_loader
from yolor_d2.data.errors import BadFileError
from yolor_d2.engine.trainer import build_for_inference
from yolor_d2.model_zoo import load_config
from yolor_d2.reports.ground_truth import record_image, true_result
from yolor_d2.tools.options import add_picture_options, add_score_threshold
from yolor_d2.visualization import CAPTIONS, KINDS, PAPER, draw_each, side_by_side, stack


def main(arguments: list[str] | None = None) -> int:
    """Draw what a model finds in the first images of the test set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_picture_options(parser, number=12, counted="how many images")
    add_score_threshold(parser)
    args = parser.parse_args(arguments)
    try:
        cfg = load_config(args.config_file, args.opts)
        if not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        cfg.OUTPUT_DIR = str(args.output)
        args.output.mkdir(parents=True, exist_ok=True)
        count = draw_test_set(cfg, number=args.number, threshold=args.score_threshold)
    except (ValueError, KeyError, OSError, BadFileError) as error:
        print(f"draw_predictions: {error}", file=sys.stderr)
        return 2
    print(f"{count} pictures are in {args.output}")
    return 0


def draw_test_set(cfg: CfgNode, *, number: int, threshold: float) -> int:
    """Write pictures of the first images of DATASETS.TEST[0] to OUTPUT_DIR; how many there are."""
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: there is nothing to draw")
    model = build_for_inference(cfg)
    name = cfg.DATASETS.TEST[0]
    items = islice(chain.from_iterable(build_test_loader(cfg, name)), number)
    records = {record["file_name"]: record for record in DatasetCatalog.get(name)}
    pictures = compare_all(
        model, items, records=records, metadata=MetadataCatalog.get(name), threshold=threshold
    )
    count = 0
    for picture in tqdm(pictures, total=min(number, len(records))):
        path = Path(cfg.OUTPUT_DIR) / f"predictions_{count:04d}.png"
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        count += 1
    return count


def compare_all(
    model: nn.Module,
    items: Iterable[dict[str, Any]],
    *,
    records: dict[str, dict[str, Any]],
    metadata: Any,
    threshold: float,
) -> Iterator[np.ndarray]:
    """A picture of each image: the truth above, what the model says below.

    Args:
        model: in evaluation mode.
        items: of a test loader.
        records: of the data set, by file name.
        metadata: names and colours of classes.
        threshold: objects of lower scores are left out.
    """
    for item in items:
        record = records[item["file_name"]]
        image = record_image(record)
        yield compare(
            draw_each(image, true_result(record), metadata),
            draw_each(image, model([item])[0], metadata, score_threshold=threshold),
        )


def compare(truth: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> np.ndarray:
    """Two rows of pictures of the same kinds, with gaps where one has none."""
    kinds = [kind for kind in (*KINDS, CAPTIONS) if kind in truth or kind in found]
    if not kinds:
        raise ValueError("there is nothing to draw: neither captions nor names of classes")
    size = next(iter((found or truth).values())).shape[1]
    gap = np.full((1, size, 3), PAPER, dtype=np.uint8)
    rows = []
    for name, pictures in (("true", truth), ("predicted", found)):
        titles = [f"{name}: {kind}" if kind in pictures else "" for kind in kinds]
        rows.append(side_by_side([pictures.get(kind, gap) for kind in kinds], titles=titles))
    return stack(rows)


if __name__ == "__main__":
    sys.exit(main())
