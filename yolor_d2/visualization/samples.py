"""Drawing training samples with their targets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor

from ..structures import SemanticMap
from ..tokenizer import Tokenizer
from .sheets import draw_panels, side_by_side

IGNORE_LABEL = 255

VIEWS = {"": "strong view", "weak_": "weak view"}  # by prefix of the sample's keys


def draw_sample(
    item: Mapping[str, Any], metadata: Any, tokenizer: Tokenizer | None, *, image_format: str
) -> np.ndarray:
    """Draw the pictures of a training sample side by side; see `sample_pictures`."""
    pictures = sample_pictures(item, metadata, tokenizer, image_format=image_format)
    return side_by_side(list(pictures.values()), titles=list(pictures))


def sample_pictures(
    item: Mapping[str, Any], metadata: Any, tokenizer: Tokenizer | None, *, image_format: str
) -> dict[str, np.ndarray]:
    """Draw the views of a training sample and their targets: caption, instances, semantic map.

    Args:
        item: output of the dataset mapper.
        metadata: names and colors of the data set's classes.
        tokenizer: decodes the caption; None draws none.
        image_format: "RGB" or "BGR".

    Returns:
        Pictures by title.
    """
    pictures: dict[str, np.ndarray] = {}
    for prefix, view in VIEWS.items():
        if f"{prefix}image" not in item:
            continue
        image = _to_rgb(item[f"{prefix}image"], image_format)
        targets = _targets(item, prefix)
        if prefix or "weak_image" not in item:  # the view of the caption head
            targets |= _caption(item, tokenizer)
        panels = draw_panels(image, targets, metadata)
        pictures |= {f"{view}: {title}": picture for title, picture in panels.items()}
    return pictures


def _to_rgb(image: Tensor, image_format: str) -> np.ndarray:
    """Convert a mapper's image (3, H, W) to RGB (H, W, 3)."""
    array = image.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array if image_format == "RGB" else array[..., ::-1])


def _targets(item: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the instances and semantic map of a view in the form of a model's output."""
    targets: dict[str, Any] = {}
    if f"{prefix}instances" in item:
        targets["instances"] = _as_predictions(item[f"{prefix}instances"])
    if f"{prefix}sem_seg" in item:
        labels = item[f"{prefix}sem_seg"]
        targets["sem_seg"] = SemanticMap(labels, num_classes=IGNORE_LABEL)
    return targets


def _caption(item: Mapping[str, Any], tokenizer: Tokenizer | None) -> dict[str, str]:
    """Return the first caption of a sample; {} without a tokenizer."""
    if tokenizer is None or "caption_ids" not in item:
        return {}
    return {"caption": tokenizer.decode(item["caption_ids"][0])}


def _as_predictions(targets: Instances) -> Instances:
    instances = Instances(targets.image_size)
    instances.pred_boxes = targets.gt_boxes
    instances.pred_classes = targets.gt_classes
    if targets.has("gt_masks"):
        masks = targets.gt_masks
        if isinstance(masks, PolygonMasks):
            masks = BitMasks.from_polygon_masks(masks, *targets.image_size)
        instances.pred_masks = masks.tensor
    return instances
