"""Registries of detection, mask and caption heads, and their contracts.

Every head is a module with `in_features`, the names of the feature maps that it reads. Images lie
on a canvas, whose pixels are the unit of boxes. N is the number of images in a batch.

Semantic heads are registered in detectron2's `SEM_SEG_HEADS_REGISTRY` and keep its contract:
`forward(features, targets=None) -> (logits, losses)`, with `ignore_value`, the label of pixels
without a target. Without targets, or in evaluation mode, losses are {}.

Optional: a head that can learn from a teacher, another network, has `misfit(teacher) -> str`: why
the predictions of the teacher's head cannot be compared with its own, "" if they can. And it has
`losses_against(predictions, teacher, ...) -> dict` of weighted scalars whose names end in
"_teacher", for its own outputs and those of the teacher's head. Detection and mask heads also get
the `SurePoints` that `sure_points(predictions, threshold)` of the teacher's detection head returns.
The outputs of a semantic head are the logits that it returns in training with `keep_logits=True`.
Caption heads have no `losses_against`: their `losses` have an argument `teacher`, the `text_logits`
of the teacher's head.
"""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

DETECTION_HEAD_REGISTRY = Registry("DETECTION_HEAD")
DETECTION_HEAD_REGISTRY.__doc__ = """
Detection heads, constructed as `head(cfg, input_shape)`:

* `in_features`: names of the maps.
* `forward(features) -> predictions`: of any type; tensors if the network is to be exported.
* `assign(predictions, objects: Objects) -> assignment`: decides which predictions train on which
  objects. Any type, without gradients; mask heads of this package need an `Assignment`.
* `losses(predictions, objects, assignment) -> dict` of weighted scalars, connected to the graph
  also without objects. Images whose `objects.known` is False contribute nothing. Sums are divided
  by counts over all processes (`modeling.reduce.over_processes`).
* `inference(predictions) -> list[Instances]`, one for each image, in pixels of the canvas, best
  first, with `pred_boxes`, `scores`, `pred_classes` and, for a mask head, `point_index`: the index
  of the prediction that found the object.

For captions that read detected objects (`MODEL.CAPTION_HEAD.REGION_FEATURE`), predictions have
`logits` (N, A, C), and `boxes(predictions)` returns (N, A, 4).
"""

MASK_HEAD_REGISTRY = Registry("MASK_HEAD")
MASK_HEAD_REGISTRY.__doc__ = """
Mask heads, constructed as `head(cfg, input_shape)`:

* `in_features`: names of the maps.
* `forward(features) -> predictions`: of any type.
* `losses(predictions, objects: Objects, assignment, masks: GroundTruthMasks) -> dict` of weighted
  scalars, connected to the graph also without objects. `assignment` is the detection head's.
  `masks` may have any resolution; images whose `masks.known` is False contribute nothing.
* `inference(predictions, *, image, boxes, point_index, content, height, width)`: the masks of the D
  objects of the image with this index in the batch, (D, height, width) bool or `RLEMasks`. `boxes`
  (D, 4) are in pixels of the canvas, `content` is the rectangle of the image on the canvas, and
  `point_index` (D,) comes from the detection head.
"""

CAPTION_HEAD_REGISTRY = Registry("CAPTION_HEAD")
CAPTION_HEAD_REGISTRY.__doc__ = """
Caption heads, constructed as `head(cfg, input_shape)`:

* `in_features`: names of the maps.
* `pad_id`: the token that captions are padded with.
* `forward(features, contents=None) -> tokens`: the encoded images, of any type. `contents` are the
  rectangles of the images on the canvas; None: the whole canvas.
* `losses(tokens, captions: CaptionTargets) -> dict` of weighted scalars, connected to the graph
  also without captions. Images whose `captions.known` is False contribute nothing.
* `generate(tokens) -> (ids, scores, lengths)`: token ids (N, T), log-probabilities (N,) and numbers
  of ids (N,) without padding.

Optional: a head that trains from rewards has `losses(tokens, captions, reward=None)`; the argument
is passed when the trainer has a reward. A head that reads objects has `regions` (not None) and
`max_regions`, and `forward(features, contents, regions: Regions)`. A head that reads the outputs of
other heads has `reads`, the tasks {"detection", "semantic"}, and `forward(features, contents,
outputs: HeadOutputs)`; the semantic head then has `shared_map` and `maps_from`.
"""


def build_detection_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    return DETECTION_HEAD_REGISTRY.get(cfg.MODEL.DETECTION_HEAD.NAME)(cfg, input_shape)


def build_mask_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    return MASK_HEAD_REGISTRY.get(cfg.MODEL.MASK_HEAD.NAME)(cfg, input_shape)


def build_caption_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    return CAPTION_HEAD_REGISTRY.get(cfg.MODEL.CAPTION_HEAD.NAME)(cfg, input_shape)


def read_by_caption_head(name: str) -> frozenset[str]:
    """Tasks whose outputs the caption head of this name reads; none if the name is unknown."""
    head = CAPTION_HEAD_REGISTRY.get(name) if name in CAPTION_HEAD_REGISTRY else None
    return frozenset(getattr(head, "reads", ()))
