"""Boxes and classes: each pixel of the maps predicts one object, without anchors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ....checks import check_names, check_range
from ...classes import number_of_classes
from ...layers import ImplicitConv1x1
from ...objects import Assignment, Objects
from ...reduce import over_processes
from ..branch import by_point, make_tower
from ..registry import DETECTION_HEAD_REGISTRY
from .assigner import TaskAlignedAssigner
from .geometry import boxes_to_distances, distances_to_boxes, expected_distances, level_points
from .losses import complete_iou, distribution_focal_loss, sparse_binary_cross_entropy

KEY = "MODEL.DETECTION_HEAD"
MIN_BOX_WIDTH = 16
MAX_CLASS_WIDTH = 128  # as far as it is the number of classes that widens a tower
BOX_BIAS = 1.0
# A new network expects so many objects in an image of this side.
EXPECTED_OBJECTS = 5
EXPECTED_SIDE = 640


class PointPredictions(NamedTuple):
    """What A points of all maps say; those of the finest map first, each map row by row."""

    logits: Tensor  # (N, A, C) of the classes
    bins: Tensor  # (N, A, 4 * R) logits of each side's distance in cells: left, top, right, bottom
    points: Tensor  # (A, 2) x y in pixels of the canvas; never in half precision
    strides: Tensor  # (A,) pixels that a cell is wide and high


@DETECTION_HEAD_REGISTRY.register()
class AnchorFreeHead(nn.Module):
    """On each map one tower for the distances of a box's sides and one for the classes.

    What only `inference` uses are plain attributes, which may be changed at any time.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        num_classes: int,
        in_features: Sequence[str] = ("p3", "p4", "p5"),
        reg_max: int = 16,
        implicit: bool = True,
        assigner: TaskAlignedAssigner | None = None,
        cls_weight: float = 0.5,
        box_weight: float = 7.5,
        dfl_weight: float = 1.5,
        score_thresh: float = 0.001,
        nms_thresh: float = 0.7,
        multi_label: bool = True,
        pre_nms_topk: int = 30000,
        detections_per_image: int = 300,
    ) -> None:
        """
        Args:
            input_shape: channels and strides of the maps.
            num_classes: how many.
            in_features: the maps whose pixels predict objects, finest first.
            reg_max: a side's distance is a distribution over 0 .. reg_max - 1 cells.
            implicit: whether the last convolutions have implicit vectors.
            assigner: says which point learns which object; None: with the published settings.
            cls_weight, box_weight, dfl_weight: factors on the losses.
            score_thresh: only predictions above are looked at.
            nms_thresh: of two boxes of a class that overlap more, the worse one is dropped.
            multi_label: whether a point may give an object of each class, or of its best one only.
            pre_nms_topk: at most so many of an image's predictions are compared.
            detections_per_image: at most so many are kept.
        """
        super().__init__()
        weights = {"CLS": cls_weight, "BOX": box_weight, "DFL": dfl_weight}
        thresholds = {"SCORE_THRESH": score_thresh, "NMS_THRESH": nms_thresh}
        check_range(KEY, {"NUM_CLASSES": num_classes}, low=1)
        check_range(KEY, {"REG_MAX": reg_max}, low=2)
        check_range(f"{KEY}.LOSS_WEIGHT", weights)
        check_range(f"{KEY}.TEST", thresholds, high=1)
        check_range(f"{KEY}.TEST", {"PRE_NMS_TOPK": pre_nms_topk}, low=1)
        check_range("TEST", {"DETECTIONS_PER_IMAGE": detections_per_image}, low=1)
        maps = _chosen_maps(input_shape, in_features)
        self.in_features = list(maps)
        self.strides = [shape.stride for shape in maps.values()]
        self.reg_max = reg_max
        self.assigner = assigner or TaskAlignedAssigner()
        self.loss_weights = {"loss_cls": cls_weight, "loss_box": box_weight, "loss_dfl": dfl_weight}
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.multi_label = multi_label
        self.pre_nms_topk = pre_nms_topk
        self.detections_per_image = detections_per_image
        self._build(maps, num_classes, implicit=implicit)

    def _build(self, maps: Mapping[str, ShapeSpec], num_classes: int, *, implicit: bool) -> None:
        finest = next(iter(maps.values())).channels
        box_width = max(MIN_BOX_WIDTH, finest // 4, 4 * self.reg_max)
        class_width = max(finest, min(2 * num_classes, MAX_CLASS_WIDTH))
        self.box_towers, self.class_towers = nn.ModuleDict(), nn.ModuleDict()
        self.box_predictors, self.class_predictors = nn.ModuleDict(), nn.ModuleDict()
        for level, shape in maps.items():
            self.box_towers[level] = make_tower(shape.channels, box_width)
            self.class_towers[level] = make_tower(shape.channels, class_width)
            cells = (EXPECTED_SIDE / shape.stride) ** 2
            self.box_predictors[level] = _predictor(
                box_width, 4 * self.reg_max, bias=BOX_BIAS, implicit=implicit
            )
            self.class_predictors[level] = _predictor(
                class_width,
                num_classes,
                bias=math.log(EXPECTED_OBJECTS / num_classes / cells),
                implicit=implicit,
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.DETECTION_HEAD
        return {
            "input_shape": input_shape,
            "num_classes": number_of_classes(cfg, "DETECTION_HEAD", "thing_classes"),
            "in_features": node.IN_FEATURES,
            "reg_max": node.REG_MAX,
            "implicit": cfg.MODEL.YOLOR.IMPLICIT,
            "assigner": TaskAlignedAssigner(
                topk=node.ASSIGN.TOPK, alpha=node.ASSIGN.ALPHA, beta=node.ASSIGN.BETA
            ),
            "cls_weight": node.LOSS_WEIGHT.CLS,
            "box_weight": node.LOSS_WEIGHT.BOX,
            "dfl_weight": node.LOSS_WEIGHT.DFL,
            "score_thresh": node.TEST.SCORE_THRESH,
            "nms_thresh": node.TEST.NMS_THRESH,
            "multi_label": node.TEST.MULTI_LABEL,
            "pre_nms_topk": node.TEST.PRE_NMS_TOPK,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def forward(self, features: Mapping[str, Tensor]) -> PointPredictions:
        maps = [features[level] for level in self.in_features]
        points, strides = level_points(
            [(m.shape[-2], m.shape[-1]) for m in maps],
            self.strides,
            dtype=torch.promote_types(maps[0].dtype, torch.float32),
            device=maps[0].device,
        )
        return PointPredictions(
            logits=by_point(features, self.class_towers, self.class_predictors),
            bins=by_point(features, self.box_towers, self.box_predictors),
            points=points,
            strides=strides,
        )

    def boxes(self, predictions: PointPredictions) -> Tensor:
        """Each point's box (N, A, 4) x0 y0 x1 y1 in pixels of the canvas, not clipped."""
        cells = expected_distances(predictions.bins.to(predictions.points.dtype))
        return distances_to_boxes(predictions.points, cells * predictions.strides[:, None])

    @torch.no_grad()
    def assign(self, predictions: PointPredictions, objects: Objects) -> Assignment:
        """Which point learns which object."""
        return self.assigner(
            logits=predictions.logits,
            boxes=self.boxes(predictions),
            points=predictions.points,
            objects=objects,
        )

    def losses(
        self, predictions: PointPredictions, objects: Objects, assignment: Assignment
    ) -> dict[str, Tensor]:
        """The weighted losses, divided by the sum of all scores that the batch has to learn."""
        image, point, score = assignment.image, assignment.point, assignment.score
        dtype = predictions.points.dtype
        logits = predictions.logits.to(dtype)
        bins = predictions.bins[image, point].to(dtype)  # (P, 4 * R)
        # From here on in cells, as published: what keeps CIoU from dividing by 0 is not scaled.
        stride = predictions.strides[point, None]  # (P, 1)
        points = predictions.points[point] / stride
        true_boxes = objects.boxes[assignment.object].to(dtype) / stride
        boxes = distances_to_boxes(points, expected_distances(bins))
        distances = boxes_to_distances(points, true_boxes)
        losses = {
            "loss_cls": sparse_binary_cross_entropy(
                logits,
                logits[image, point, objects.classes[assignment.object]],
                score,
                known=objects.known,
            ),
            "loss_box": ((1 - complete_iou(boxes, true_boxes)) * score).sum(),
            "loss_dfl": (distribution_focal_loss(bins, distances) * score).sum(),
        }
        scores, processes = over_processes(score.sum())
        total_score = scores.clamp(min=1)
        return {
            name: self.loss_weights[name] * loss * processes / total_score
            for name, loss in losses.items()
        }

    @torch.no_grad()
    def inference(self, predictions: PointPredictions) -> list[Instances]:
        """What is found in each image, best first, on the canvas.

        Returns:
            Instances with pred_boxes, scores, pred_classes and point_index, the number of the point
            that found it.
        """
        # The last point is in the middle of the last cell of the coarsest map.
        corner = predictions.points[-1] + predictions.strides[-1] / 2
        width, height = corner.int().tolist()
        boxes = self.boxes(predictions)  # (N, A, 4)
        return [
            self.find(logits.to(boxes.dtype).sigmoid(), there, (height, width))
            for logits, there in zip(predictions.logits, boxes, strict=True)
        ]

    def find(self, scores: Tensor, boxes: Tensor, size: tuple[int, int]) -> Instances:
        """What is found in one image, whose points have scores (A, C) and boxes (A, 4)."""
        above = scores > self.score_thresh
        if not self.multi_label:
            best = scores.argmax(dim=1, keepdim=True)
            above = torch.zeros_like(above).scatter_(1, best, above.gather(1, best))
        point, classes = above.nonzero(as_tuple=True)
        # Equal scores stay in the order of points and classes.
        order = scores[point, classes].argsort(descending=True, stable=True)[: self.pre_nms_topk]
        point, classes = point[order], classes[order]
        kept = self._suppress(boxes[point], scores[point, classes], classes)
        point, classes = point[kept], classes[kept]
        found = Instances(size)
        found.pred_boxes = Boxes(boxes[point])
        found.scores = scores[point, classes].float()
        found.pred_classes = classes
        found.point_index = point
        return found

    def _suppress(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        """Non-maximum suppression among boxes of a class, of predictions that are best first.

        batched_nms sets classes apart by moving them. It relies on coordinates not being negative;
        in float32, boxes of the later classes would lose digits.
        """
        reach = (self.reg_max - 1) * self.strides[-1]  # of a box beyond the canvas, at most
        kept = batched_nms(boxes.double() + reach, scores.double(), classes, self.nms_thresh)
        return kept.sort().values[: self.detections_per_image]


def _chosen_maps(
    input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
) -> dict[str, ShapeSpec]:
    """The maps to read; finest first, because other heads take points in that order too."""
    key = f"{KEY}.IN_FEATURES"
    check_names(key, in_features, input_shape)
    maps = {name: input_shape[name] for name in in_features}
    strides = [input_shape[name].stride for name in in_features]
    if strides != sorted(set(strides)):
        raise ValueError(f"{key} must have the finest map first and no two alike: {strides}")
    return maps


def _predictor(in_channels: int, out_channels: int, *, bias: float, implicit: bool) -> nn.Module:
    predictor = ImplicitConv1x1(in_channels, out_channels, implicit=implicit)
    nn.init.constant_(predictor.get_parameter("bias"), bias)
    return predictor
