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
from detectron2.structures import Instances
from torch import nn
from tqdm import tqdm

from yolor_d2.data import build_test_loader
from yolor_d2.data.errors import BadFileError
from yolor_d2.data.images import read_image
from yolor_d2.engine.main import build_for_inference
from yolor_d2.engine.tokenizing import resolve_tokenizer
from yolor_d2.model_zoo import load_config
from yolor_d2.tools.show_views import (
    CAPTIONS,
    KINDS,
    OBJECTS,
    PANOPTIC,
    SEMANTIC,
    draw_annotations,
)
from yolor_d2.visualization import (
    PAPER,
    Layers,
    caption_strip,
    draw_layers,
    readable_scale,
    side_by_side,
    stack,
)


def main(arguments: list[str] | None = None) -> int:
    """Draw what a model finds in the first images of the test set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="a file of configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--number", type=int, default=12, help="how many images")
    parser.add_argument(
        "--score-threshold", type=float, default=0.25, help="objects below are left out"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the configuration")
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
    resolve_tokenizer(cfg)
    model = build_for_inference(cfg)
    name = cfg.DATASETS.TEST[0]
    items = islice(chain.from_iterable(build_test_loader(cfg, name)), number)
    records = {record["file_name"]: record for record in DatasetCatalog.get(name)}
    pictures = draw_results(
        model, items, records=records, metadata=MetadataCatalog.get(name), threshold=threshold
    )
    count = 0
    for picture in tqdm(pictures, total=min(number, len(records))):
        path = Path(cfg.OUTPUT_DIR) / f"predictions_{count:02d}.png"
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        count += 1
    return count


def draw_results(
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
        result = model([item])[0]
        yield compare(
            draw_annotations(record, metadata),
            draw_predictions(record, result, metadata, threshold=threshold),
        )


def compare(truth: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> np.ndarray:
    """Two rows of pictures of the same kinds, with gaps where one has none."""
    kinds = [kind for kind in KINDS if kind in truth or kind in found]
    size = next(iter((found or truth).values())).shape[1]
    gap = np.full((1, size, 3), PAPER, dtype=np.uint8)
    rows = []
    for name, pictures in (("true", truth), ("predicted", found)):
        titles = [f"{name}: {kind}" if kind in pictures else "" for kind in kinds]
        rows.append(side_by_side([pictures.get(kind, gap) for kind in kinds], titles=titles))
    return stack(rows)


def draw_predictions(
    record: dict[str, Any], result: dict[str, Any], metadata: Any, *, threshold: float
) -> dict[str, np.ndarray]:
    """An image with each kind of what a model says of it, some of KINDS.

    Classes are drawn where the metadata have their colours, captions always.
    """
    image = read_image(record["file_name"], width=record["width"], height=record["height"])
    scale = readable_scale(image)
    layers = {}
    if "instances" in result and metadata.get("thing_colors"):
        found = result["instances"].to("cpu")
        layers[OBJECTS] = _found_layers(found[found.scores >= threshold], metadata)
    if "sem_seg" in result and metadata.get("stuff_colors"):
        labels = result["sem_seg"].argmax(dim=0).cpu().numpy()
        layers[SEMANTIC] = Layers(sem_seg=labels, sem_seg_colors=metadata.stuff_colors)
    if "panoptic_seg" in result and metadata.get("panoptic_colors"):
        ids, segments = result["panoptic_seg"]
        layers[PANOPTIC] = _segment_layers(ids.cpu().numpy(), segments, metadata)
    pictures = {kind: draw_layers(image, layer, scale=scale) for kind, layer in layers.items()}
    if "caption" in result:
        pictures[CAPTIONS] = caption_strip(result["caption"], image.shape[1] * scale)
    return pictures


def _found_layers(instances: Instances, metadata: Any) -> Layers:
    classes = instances.pred_classes.tolist()
    names = [metadata.thing_classes[c] for c in classes]
    scores = instances.scores.tolist()
    return Layers(
        boxes=instances.pred_boxes.tensor.numpy(),
        labels=[f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)],
        colors=[tuple(metadata.thing_colors[c]) for c in classes],
        masks=np.asarray(instances.pred_masks) if instances.has("pred_masks") else None,
    )


def _segment_layers(ids: np.ndarray, segments: list[dict[str, Any]], metadata: Any) -> Layers:
    return Layers(
        masks=np.array([ids == segment["id"] for segment in segments]),
        colors=[tuple(metadata.panoptic_colors[s["category_id"]]) for s in segments],
    )


if __name__ == "__main__":
    sys.exit(main())
