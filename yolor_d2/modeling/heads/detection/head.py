"""Anchor-free detection: every cell of the feature maps predicts one box and its classes."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ....checks import check_names, check_range
from ....errors import ConfigError
from ...classes import number_of_classes
from ...objects import Assignment, Objects, SurePoints
from ...reduce import over_processes
from ..branch import adds_before_tower, by_point, make_predictor, make_tower
from ..registry import DETECTION_HEAD_REGISTRY
from .assigner import TaskAlignedAssigner
from .distillation import box_losses, class_loss, sure_points
from .geometry import boxes_to_distances, distances_to_boxes, expected_distances, level_points
from .losses import (
    DetectionLossWeights,
    complete_iou,
    distribution_focal_loss,
    sparse_binary_cross_entropy,
)
from .suppression import Suppression

KEY = "MODEL.DETECTION_HEAD"
MIN_BOX_WIDTH = 16
MAX_CLASS_WIDTH = 128  # limit on the width that follows from the number of classes
BOX_BIAS = 1.0
# Initial class scores correspond to this number of objects in a square image of this side.
EXPECTED_OBJECTS = 5
EXPECTED_SIDE = 640


class PointPredictions(NamedTuple):
    """Predictions of the A points of all maps, finest map first, each map row by row."""

    logits: Tensor  # (N, A, C) class logits
    bins: Tensor  # (N, A, 4 * R) logits of each side's distance in cells: left, top, right, bottom
    points: Tensor  # (A, 2) x y in pixels of the canvas; never in half precision
    strides: Tensor  # (A,) side of a point's cell in pixels
    one_to_one: "PointPredictions | None" = None  # of a second set of branches, in training


@DETECTION_HEAD_REGISTRY.register()
class AnchorFreeHead(nn.Module):
    """Per map, one tower for the distances to the sides of a box and one for the classes.

    `suppression` is used by `inference` only and can be replaced at any time:
    `head.suppression = head.suppression._replace(score_thresh=0.5)`.
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
        implicit_placement: str = "predictor",
        box_groups: int = 1,
        depthwise_classes: bool = False,
        assigner: TaskAlignedAssigner | None = None,
        loss_weights: DetectionLossWeights | None = None,
        suppression: Suppression | None = None,
    ) -> None:
        """
        Args:
            input_shape: channels and strides of the feature maps.
            num_classes: number of classes.
            in_features: maps whose cells predict objects, finest first.
            reg_max: number of bins; a side's distance is a distribution over 0 .. reg_max - 1
                cells.
            implicit: whether the branches have implicit vectors.
            implicit_placement: where one of them is added, "predictor" or "tower"; see `branch`.
            box_groups: groups of the last two convolutions of box branches; 4 separates the sides.
            depthwise_classes: whether the 3 x 3 convolutions of class branches are depthwise, each
                followed by a 1 x 1 convolution.
            assigner: assigns objects to points; None: the published settings.
            loss_weights: factors of the losses; None: the published ones.
            suppression: selects the detections; None: the settings of the published evaluation.
        """
        super().__init__()
        check_range(KEY, {"NUM_CLASSES": num_classes}, low=1)
        check_range(KEY, {"REG_MAX": reg_max}, low=2)
        check_range(KEY, {"BOX_GROUPS": box_groups}, low=1)
        if 4 * reg_max % box_groups:
            raise ConfigError(f"{KEY}.BOX_GROUPS is {box_groups}; it must divide 4 * REG_MAX")
        maps = _chosen_maps(input_shape, in_features)
        self.in_features = list(maps)
        self.strides = [shape.stride for shape in maps.values()]
        self.num_classes = num_classes
        self.reg_max = reg_max
        self.assigner = assigner or TaskAlignedAssigner()
        self.loss_weights = loss_weights or DetectionLossWeights()
        self.suppression = suppression or Suppression()
        self.loss_weights.check()
        self.suppression.check()
        in_tower = adds_before_tower(implicit=implicit, placement=implicit_placement)
        self._build(
            maps,
            num_classes,
            box_groups=box_groups,
            depthwise_classes=depthwise_classes,
            tower=partial(make_tower, implicit_add=in_tower),
            predictor=partial(make_predictor, implicit=implicit, placement=implicit_placement),
        )

    def _build(
        self,
        maps: Mapping[str, ShapeSpec],
        num_classes: int,
        *,
        box_groups: int,
        depthwise_classes: bool,
        tower: Callable[..., nn.Module],
        predictor: Callable[..., nn.Module],
    ) -> None:
        finest = next(iter(maps.values())).channels
        box_width = max(MIN_BOX_WIDTH, finest // 4, 4 * self.reg_max)
        box_width = box_groups * -(-box_width // box_groups)
        class_width = max(finest, min(2 * num_classes, MAX_CLASS_WIDTH))
        self.box_towers, self.class_towers = nn.ModuleDict(), nn.ModuleDict()
        self.box_predictors, self.class_predictors = nn.ModuleDict(), nn.ModuleDict()
        for level, shape in maps.items():
            self.box_towers[level] = tower(shape.channels, box_width, groups=box_groups)
            self.class_towers[level] = tower(
                shape.channels, class_width, depthwise=depthwise_classes
            )
            cells = (EXPECTED_SIDE / shape.stride) ** 2
            self.box_predictors[level] = _with_bias(
                predictor(box_width, 4 * self.reg_max, groups=box_groups), BOX_BIAS
            )
            self.class_predictors[level] = _with_bias(
                predictor(class_width, num_classes),
                math.log(EXPECTED_OBJECTS / num_classes / cells),
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
            "implicit_placement": cfg.MODEL.YOLOR.IMPLICIT_PLACEMENT,
            "box_groups": node.BOX_GROUPS,
            "depthwise_classes": node.DEPTHWISE_CLASSES,
            "assigner": TaskAlignedAssigner(
                topk=node.ASSIGN.TOPK,
                alpha=node.ASSIGN.ALPHA,
                beta=node.ASSIGN.BETA,
                min_side=node.ASSIGN.MIN_SIDE,
            ),
            "loss_weights": DetectionLossWeights(
                cls=node.LOSS_WEIGHT.CLS, box=node.LOSS_WEIGHT.BOX, dfl=node.LOSS_WEIGHT.DFL
            ),
            "suppression": Suppression(
                score_thresh=node.TEST.SCORE_THRESH,
                nms_thresh=node.TEST.NMS_THRESH,
                multi_label=node.TEST.MULTI_LABEL,
                pre_nms_topk=node.TEST.PRE_NMS_TOPK,
                detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            ),
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
        """Boxes (N, A, 4) x0 y0 x1 y1 of the points, in pixels of the canvas, not clipped."""
        cells = expected_distances(predictions.bins.to(predictions.points.dtype))
        return distances_to_boxes(predictions.points, cells * predictions.strides[:, None])

    @torch.no_grad()
    def assign(self, predictions: PointPredictions, objects: Objects) -> Assignment:
        """Assign objects to points."""
        return self.assigner(
            logits=predictions.logits,
            boxes=self.boxes(predictions),
            points=predictions.points,
            objects=objects,
        )

    def losses(
        self, predictions: PointPredictions, objects: Objects, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Weighted losses, normalized by the sum of the target scores of the whole batch."""
        image, point, score = assignment.image, assignment.point, assignment.score
        dtype = predictions.points.dtype
        logits = predictions.logits.to(dtype)
        bins = predictions.bins[image, point].to(dtype)  # (P, 4 * R)
        # Boxes in cells, as published: the epsilon of CIoU is not scaled by the stride.
        stride = predictions.strides[point, None]  # (P, 1)
        points = predictions.points[point] / stride
        true_boxes = objects.boxes[assignment.object].to(dtype) / stride
        boxes = distances_to_boxes(points, expected_distances(bins))
        distances = boxes_to_distances(points, true_boxes)
        classes = objects.classes[assignment.object]
        known, positive_known = objects.known, None
        if objects.labeled is not None:
            known = _known_classes(objects.known, objects.labeled, logits.shape[2])  # (N, C)
            positive_known = known[image, classes]
        loss_cls = sparse_binary_cross_entropy(
            logits, logits[image, point, classes], score, known, positive_known
        )
        loss_box = ((1 - complete_iou(boxes, true_boxes)) * score).sum()
        loss_dfl = (distribution_focal_loss(bins, distances) * score).sum()
        scores, processes = over_processes(score.sum())
        total_score = scores.clamp(min=1)
        weights = self.loss_weights
        return {
            "loss_cls": weights.cls * loss_cls * processes / total_score,
            "loss_box": weights.box * loss_box * processes / total_score,
            "loss_dfl": weights.dfl * loss_dfl * processes / total_score,
        }

    def misfit(self, teacher: nn.Module) -> str:
        """Why predictions cannot be compared with those of another head; "" if they can."""
        if not isinstance(teacher, AnchorFreeHead):
            return f"its detection head is {type(teacher).__name__}"
        for what, own, other in (
            ("points with strides", self.strides, teacher.strides),
            ("number of bins", self.reg_max, teacher.reg_max),
            ("number of object classes", self.num_classes, teacher.num_classes),
        ):
            if own != other:
                return f"its {what} {other}, and those of the network {own}, differ"
        return ""

    def sure_points(self, predictions: PointPredictions, threshold: float) -> SurePoints:
        """The points with the best class scores, to teach another head."""
        return sure_points(predictions.logits, self.boxes(predictions), threshold=threshold)

    def losses_against(
        self, predictions: PointPredictions, teacher: PointPredictions, points: SurePoints
    ) -> dict[str, Tensor]:
        """Weighted losses against the predictions of a teacher.

        Args:
            predictions: of this head.
            teacher: predictions of the teacher's head for the same images.
            points: that the teacher is sure of.
        """
        dtype = predictions.points.dtype
        loss_cls = class_loss(predictions.logits.to(dtype), teacher.logits.to(dtype), points)
        loss_box, loss_dfl = box_losses(
            predictions.bins.to(dtype),
            teacher.bins.to(dtype),
            points,
            centers=predictions.points,
            strides=predictions.strides,
        )
        return {
            "loss_cls_teacher": self.loss_weights.cls * loss_cls,
            "loss_box_teacher": self.loss_weights.box * loss_box,
            "loss_dfl_teacher": self.loss_weights.dfl * loss_dfl,
        }

    @torch.no_grad()
    def inference(self, predictions: PointPredictions) -> list[Instances]:
        """Detections of each image on the canvas, by descending score.

        Returns:
            Instances with pred_boxes, scores, pred_classes and point_index, the index of the point
            that predicted the object.
        """
        # The last point is the center of the last cell of the coarsest map.
        corner = predictions.points[-1] + predictions.strides[-1] / 2
        width, height = corner.int().tolist()
        boxes = self.boxes(predictions)  # (N, A, 4)
        return [
            self.detect(logits.to(boxes.dtype).sigmoid(), points_boxes, (height, width))
            for logits, points_boxes in zip(predictions.logits, boxes, strict=True)
        ]

    def detect(self, scores: Tensor, boxes: Tensor, size: tuple[int, int]) -> Instances:
        """Detections of one image from the scores (A, C) and boxes (A, 4) of its points."""
        margin = (self.reg_max - 1) * self.strides[-1]
        point, classes = self.suppression.select(scores, boxes, margin=margin)
        detections = Instances(size)
        detections.pred_boxes = Boxes(boxes[point])
        detections.scores = scores[point, classes].float()
        detections.pred_classes = classes
        detections.point_index = point
        return detections


def _chosen_maps(
    input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
) -> dict[str, ShapeSpec]:
    """Shapes of the maps that are read, finest first: other heads rely on the order of points."""
    key = f"{KEY}.IN_FEATURES"
    check_names(key, in_features, input_shape)
    maps = {name: input_shape[name] for name in in_features}
    strides = [input_shape[name].stride for name in in_features]
    if strides != sorted(set(strides)):
        raise ConfigError(
            f"{key} must be ordered from fine to coarse, without repetition: {strides}"
        )
    return maps


def _known_classes(known: Tensor, labeled: Tensor, num_classes: int) -> Tensor:
    """Classes with a loss at all points of an image (N, C); beyond the data's, all are known."""
    missing = num_classes - labeled.shape[1]
    return known[:, None] & F.pad(labeled, (0, missing), value=True)


def _with_bias(predictor: nn.Module, bias: float) -> nn.Module:
    nn.init.constant_(predictor.get_parameter("bias"), bias)
    return predictor
