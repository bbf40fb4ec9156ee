"""Where detection, mask and caption heads are found by name.

Every head has `in_features`, the names of the maps that it reads. Semantic heads are in
detectron2's own `SEM_SEG_HEADS_REGISTRY`.
"""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

DETECTION_HEAD_REGISTRY = Registry("DETECTION_HEAD")
DETECTION_HEAD_REGISTRY.__doc__ = """
Heads that find objects: `head(cfg, input_shape)`, then

* `forward(features) -> PointPredictions`: pure tensors, logits and box distances of each point.
* `assign(predictions, objects) -> Assignment`: which point learns which object.
* `losses(predictions, objects, assignment) -> dict` of weighted scalars.
* `inference(predictions) -> list[Instances]` on the canvas, with `pred_boxes, scores, pred_classes,
  point_index`, best first.
"""

MASK_HEAD_REGISTRY = Registry("MASK_HEAD")
MASK_HEAD_REGISTRY.__doc__ = """
Heads that outline the objects that a detection head found: `head(cfg, input_shape)`, then

* `forward(features) -> MaskPredictions`: pure tensors, coefficients of each point and prototypes.
* `losses(predictions, objects, assignment, masks) -> dict` of weighted scalars.
* `inference(predictions, *, image, boxes, point_index, content, height, width)`: masks of one
  image's objects at its own size.
"""

CAPTION_HEAD_REGISTRY = Registry("CAPTION_HEAD")
CAPTION_HEAD_REGISTRY.__doc__ = """
Heads that say what an image shows: `head(cfg, input_shape)`, then

* `forward(features, contents=None) -> VisualTokens`: what the text is decoded from.
* `losses(tokens, caption_ids, known) -> dict` of weighted scalars; `caption_ids` are (N, K, T), and
  `known` (N,) says which images have a caption.
* `generate(tokens) -> Captions`: token ids, log-probabilities, lengths.
* `pad_id`: what `caption_ids` are padded with.
"""


def build_detection_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    return DETECTION_HEAD_REGISTRY.get(cfg.MODEL.DETECTION_HEAD.NAME)(cfg, input_shape)


def build_mask_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    return MASK_HEAD_REGISTRY.get(cfg.MODEL.MASK_HEAD.NAME)(cfg, input_shape)


def build_caption_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    return CAPTION_HEAD_REGISTRY.get(cfg.MODEL.CAPTION_HEAD.NAME)(cfg, input_shape)
