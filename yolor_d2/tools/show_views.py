"""Pictures of what the model is fed: strong and weak views with all their targets.

python -m yolor_d2.tools.show_views --config-file FILE --output DIR [--number N] [KEY VALUE ...]
"""

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from tqdm import tqdm

from yolor_d2.data import build_tokenizer, build_train_loader
from yolor_d2.model_zoo import load_config
from yolor_d2.tokenizer import Tokenizer
from yolor_d2.visualization import Color, Layers, draw_layers, side_by_side

# Below this width a view is enlarged, so that labels can be read.
READABLE_WIDTH = 480


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
    except (ValueError, KeyError, OSError) as error:
        print(f"show_views: {error}", file=sys.stderr)
        return 2
    print(f"{args.number} pictures are in {args.output}")
    return 0


def draw_samples(cfg: CfgNode, number: int) -> Any:
    """Yield pictures of the first samples of the training loader, RGB uint8."""
    tokenizer = build_tokenizer(cfg) if "caption" in cfg.MODEL.YOLOR.TASKS else None
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    loader = build_train_loader(cfg, tokenizer=tokenizer)
    items = itertools.chain.from_iterable(loader)
    for item in itertools.islice(items, number):
        yield draw_item(item, metadata, tokenizer, image_format=cfg.INPUT.FORMAT)


def draw_item(
    item: dict[str, Any], metadata: Any, tokenizer: Tokenizer | None, *, image_format: str
) -> np.ndarray:
    """Both views of a training sample with all targets: image, instances, semantic map, caption."""
    caption = None
    if "caption_ids" in item and tokenizer is not None:
        caption = tokenizer.decode(item["caption_ids"])
    pictures, titles = [], []
    for prefix, name in (("", "strong view"), ("weak_", "weak view")):
        if f"{prefix}image" not in item:
            continue
        image = _to_rgb(item[f"{prefix}image"], image_format)
        scale = -(-READABLE_WIDTH // image.shape[1])
        is_weak = bool(prefix)
        if f"{prefix}instances" in item:
            layers = _instance_layers(item[f"{prefix}instances"], metadata)
            pictures.append(draw_layers(image, layers, scale=scale))
            titles.append(f"{name}: boxes" + (", masks" if layers.masks is not None else ""))
        if f"{prefix}sem_seg" in item:
            layers = Layers(
                sem_seg=item[f"{prefix}sem_seg"].numpy(), sem_seg_colors=metadata.stuff_colors
            )
            pictures.append(draw_layers(image, layers, scale=scale))
            titles.append(f"{name}: semantic map")
        if is_weak or "weak_image" not in item:
            pictures.append(draw_layers(image, Layers(caption=caption), scale=scale))
            titles.append(f"{name}: caption" if caption else name)
    return side_by_side(pictures, titles=titles)


def _to_rgb(image: torch.Tensor, image_format: str) -> np.ndarray:
    array = image.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array if image_format == "RGB" else array[..., ::-1])


def _instance_layers(instances: Any, metadata: Any) -> Layers:
    classes = instances.gt_classes.tolist()
    colors: list[Color] = [tuple(metadata.thing_colors[c]) for c in classes]
    masks = instances.gt_masks.tensor.numpy() if instances.has("gt_masks") else None
    return Layers(
        boxes=instances.gt_boxes.tensor.numpy(),
        labels=[metadata.thing_classes[c] for c in classes],
        colors=colors,
        masks=masks,
    )


if __name__ == "__main__":
    sys.exit(main())
