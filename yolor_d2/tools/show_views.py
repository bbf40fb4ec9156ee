"""Pictures of what the model is fed: strong and weak views with all their targets.

Below them stands what the data set knows of the sample's own image.

python -m yolor_d2.tools.show_views --config-file FILE --output DIR [--number N] [KEY VALUE ...]
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from yolor_d2.data import build_tokenizer, build_train_loader
from yolor_d2.data.errors import BadFileError
from yolor_d2.data.images import read_image
from yolor_d2.data.semantic_files import read_index_png
from yolor_d2.data.targets import rasterize_all, read_objects
from yolor_d2.model_zoo import load_config
from yolor_d2.visualization import (
    Layers,
    caption_strip,
    draw_layers,
    draw_sample,
    readable_scale,
    side_by_side,
    stack,
)

OBJECTS, SEMANTIC, PANOPTIC, CAPTIONS = KINDS = (
    "boxes, masks",
    "semantic map",
    "panoptic map",
    "captions",
)


def main(arguments: list[str] | None = None) -> int:
    """Draw samples of a configuration's training loader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="a file of configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--number", type=int, default=8, help="how many samples")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the configuration")
    args = parser.parse_args(arguments)
    try:
        cfg = load_config(args.config_file, args.opts)
        cfg.OUTPUT_DIR = str(args.output)
        args.output.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(tqdm(draw_samples(cfg, args.number), total=args.number)):
            path = args.output / f"sample_{number:02d}.png"
            cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except (ValueError, KeyError, OSError, BadFileError) as error:
        print(f"show_views: {error}", file=sys.stderr)
        return 2
    print(f"{args.number} pictures are in {args.output}")
    return 0


def draw_samples(cfg: CfgNode, number: int) -> Iterator[np.ndarray]:
    """Pictures of the first samples of the training loader, RGB uint8."""
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        raise ValueError("INPUT.DATASET_MAPPER_NAME must be multitask: other mappers have no views")
    tokenizer = build_tokenizer(cfg) if "caption" in cfg.MODEL.YOLOR.TASKS else None
    records = {
        record["file_name"]: (record, MetadataCatalog.get(name))
        for name in cfg.DATASETS.TRAIN
        for record in DatasetCatalog.get(name)
    }
    loader = build_train_loader(cfg, tokenizer=tokenizer)
    for item in itertools.islice(itertools.chain.from_iterable(loader), number):
        record, metadata = records[item["file_name"]]
        views = draw_sample(item, metadata, tokenizer, image_format=cfg.INPUT.FORMAT)
        yield stack([views, draw_record(record, metadata)])


def draw_record(record: dict[str, Any], metadata: Any) -> np.ndarray:
    """An image with all its annotations, next to each other."""
    pictures = draw_annotations(record, metadata)
    titles = [f"annotations: {kind}" for kind in pictures]
    if not pictures:
        image = read_image(record["file_name"], width=record["width"], height=record["height"])
        pictures, titles = {"": image}, ["no annotations"]
    return side_by_side(list(pictures.values()), titles=titles)


def draw_annotations(record: dict[str, Any], metadata: Any) -> dict[str, np.ndarray]:
    """An image with each kind of its annotations, some of KINDS."""
    image = read_image(record["file_name"], width=record["width"], height=record["height"])
    scale = readable_scale(image)
    layers = {}
    if "annotations" in record:
        layers[OBJECTS] = _object_layers(record, metadata)
    if "sem_seg_file_name" in record:
        layers[SEMANTIC] = Layers(
            sem_seg=read_index_png(record["sem_seg_file_name"]),
            sem_seg_colors=metadata.stuff_colors,
        )
    if "segments_info" in record:
        layers[PANOPTIC] = _panoptic_layers(record, metadata)
    pictures = {kind: draw_layers(image, layer, scale=scale) for kind, layer in layers.items()}
    if record.get("captions"):
        strips = [caption_strip(caption, image.shape[1] * scale) for caption in record["captions"]]
        pictures[CAPTIONS] = np.concatenate(strips)
    return pictures


def _object_layers(record: dict[str, Any], metadata: Any) -> Layers:
    """Crowds too, which are no targets."""
    objects = read_objects({**record, "annotations": _without_crowd_flag(record["annotations"])})
    masks = rasterize_all(
        [objects.outlines(index) for index in range(len(objects.classes))],
        width=record["width"],
        height=record["height"],
        stride=1,
    )
    classes = objects.classes.tolist()
    return Layers(
        boxes=objects.boxes,
        labels=[metadata.thing_classes[c] for c in classes],
        colors=[tuple(metadata.thing_colors[c]) for c in classes],
        masks=masks,
    )


def _without_crowd_flag(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**annotation, "iscrowd": 0} for annotation in annotations]


def _panoptic_layers(record: dict[str, Any], metadata: Any) -> Layers:
    """Each segment is a mask."""
    size = {"width": record["width"], "height": record["height"]}
    red, green, blue = np.moveaxis(
        read_image(record["pan_seg_file_name"], **size).astype(int), 2, 0
    )
    ids = red + 256 * green + 65536 * blue
    segments = record["segments_info"]
    return Layers(
        masks=np.stack([ids == segment["id"] for segment in segments]),
        colors=[tuple(metadata.panoptic_colors[s["category_id"]]) for s in segments],
    )


if __name__ == "__main__":
    sys.exit(main())
