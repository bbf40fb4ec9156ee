"""From what the heads say on the network's canvas to results on the image."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..letterbox import Content, boxes_to_image
from ..structures import SemanticMap
from .heads import MaskPredictions, PointPredictions, PrototypeMaskHead, VisualTokens
from .heads.semantic.maps import labels_at, logits_at


class RawOutputs(NamedTuple):
    """What each head says of N images; None without the head."""

    points: PointPredictions | None
    outlines: MaskPredictions | None
    semantic: Tensor | None  # (N, S, h, w) logits
    tokens: VisualTokens | None


class Frame(NamedTuple):
    """Where an image lies on the network's canvas, and how large its results shall be."""

    content: Content
    canvas: tuple[int, int]  # height, width
    height: int
    width: int


def make_frames(
    samples: Sequence[Mapping[str, Any]], contents: Sequence[Content], canvas: Tensor
) -> list[Frame]:
    """Of images on a canvas (N, 3, H, W); their samples say how large results shall be."""
    size = canvas.shape[-2], canvas.shape[-1]
    return [
        Frame(content, size, s.get("height", content.height), s.get("width", content.width))
        for s, content in zip(samples, contents, strict=True)
    ]


def place_instances(
    found: Instances,
    frame: Frame,
    mask_head: PrototypeMaskHead | None,
    outlines: MaskPredictions | None,
    *,
    image: int,
) -> Instances:
    """The instances of one canvas on its image; those in the padding alone are dropped.

    Args:
        found: boxes on the canvas, with scores, classes and the points that said so.
        frame: of the image.
        mask_head: adds masks, if there is one.
        outlines: what it said of the whole batch.
        image: its number in the batch.
    """
    size = {"height": frame.height, "width": frame.width}
    boxes = Boxes(boxes_to_image(found.pred_boxes.tensor, frame.content, **size))
    visible = boxes.nonempty()
    found = found[visible]
    placed = Instances((frame.height, frame.width))
    placed.pred_boxes = boxes[visible]
    placed.scores = found.scores
    placed.pred_classes = found.pred_classes
    if mask_head is not None and outlines is not None:
        placed.pred_masks = mask_head.inference(
            outlines,
            image=image,
            boxes=found.pred_boxes.tensor,
            point_index=found.point_index,
            content=frame.content,
            **size,
        )
    return placed


def place_map(logits: Tensor, frame: Frame, *, full_logits: bool) -> Tensor | SemanticMap:
    """What each pixel of the image is: logits (S, height, width), or labels."""
    at_image = logits_at if full_logits else labels_at
    size = {"height": frame.height, "width": frame.width}
    pixels = at_image(logits, frame.content, canvas=frame.canvas, **size)
    return pixels if full_logits else SemanticMap(pixels, len(logits))
