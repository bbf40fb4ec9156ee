"""From the heads' outputs on the canvas to results on the image."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..letterbox import Content, boxes_to_image
from ..structures import SemanticMap
from .heads.semantic.maps import labels_at, labels_with_probabilities_at, logits_at


class RawOutputs(NamedTuple):
    """The output of each task's head for N images; None without the head.

    Heads return any type; the comments name those of our own.
    """

    detection: Any  # PointPredictions
    mask: Any  # MaskPredictions
    semantic: Tensor | None  # (N, S, h, w) logits
    caption: Any  # VisualTokens
    extra: Mapping[str, Any] = MappingProxyType({})  # of heads that a subclass of YOLOR adds


class Frame(NamedTuple):
    """The rectangle of an image on the canvas, and the size of its results."""

    content: Content
    canvas: tuple[int, int]  # height, width
    height: int
    width: int


def in_float32(outputs: Any) -> Any:
    """Outputs of heads, nested in any way, with tensors in half precision converted."""
    if isinstance(outputs, Tensor):
        is_half = outputs.dtype in (torch.bfloat16, torch.float16)
        return outputs.float() if is_half else outputs
    if isinstance(outputs, Mapping):
        return {name: in_float32(value) for name, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return type(outputs)(*map(in_float32, outputs))
    return type(outputs)(map(in_float32, outputs)) if type(outputs) in (list, tuple) else outputs


def make_frames(
    samples: Sequence[Mapping[str, Any]], contents: Sequence[Content], canvas: Tensor
) -> list[Frame]:
    """One frame for each image on a canvas (N, 3, H, W).

    Results have the "height" and "width" of the samples, by default those of their images.
    """
    size = canvas.shape[-2], canvas.shape[-1]
    return [
        Frame(content, size, s.get("height", content.height), s.get("width", content.width))
        for s, content in zip(samples, contents, strict=True)
    ]


def place_instances(
    found: Instances, frame: Frame, mask_head: Any, mask_predictions: Any, *, image: int
) -> Instances:
    """Move instances from the canvas to the image; those entirely in the padding are dropped.

    Args:
        found: with pred_boxes on the canvas, scores, pred_classes, and point_index for masks.
        frame: of the image.
        mask_head: adds masks; None: no masks.
        mask_predictions: the mask head's output for the batch.
        image: index of the image in the batch.
    """
    size = {"height": frame.height, "width": frame.width}
    boxes = Boxes(boxes_to_image(found.pred_boxes.tensor, frame.content, **size))
    visible = boxes.nonempty()
    found = found[visible]
    placed = Instances((frame.height, frame.width))
    placed.pred_boxes = boxes[visible]
    placed.scores = found.scores
    placed.pred_classes = found.pred_classes
    if mask_head is not None and mask_predictions is not None:
        placed.pred_masks = mask_head.inference(
            mask_predictions,
            image=image,
            boxes=found.pred_boxes.tensor,
            point_index=found.point_index,
            content=frame.content,
            **size,
        )
    return placed


def place_map(
    logits: Tensor, frame: Frame, *, full_logits: bool, with_probabilities: bool = False
) -> Tensor | SemanticMap:
    """Semantic logits (S, height, width) of the image, or its labels, also with probabilities."""
    where: Any = {"canvas": frame.canvas, "height": frame.height, "width": frame.width}
    if full_logits:
        return logits_at(logits, frame.content, **where)
    if with_probabilities:
        labels, probabilities = labels_with_probabilities_at(logits, frame.content, **where)
        return SemanticMap(labels, len(logits), probabilities)
    return SemanticMap(labels_at(logits, frame.content, **where), len(logits))
