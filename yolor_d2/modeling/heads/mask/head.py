"""Instance masks as weighted sums of prototype maps, as in YOLACT."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ....checks import check_choice, check_names, check_range
from ....letterbox import Content
from ....structures import RLEMasks
from ...layers import ConvBlock, DenseNeck
from ...layers.functional import keep_layout
from ...objects import Assignment, GroundTruthMasks, Objects, SurePoints
from ..branch import adds_before_tower, by_point, make_predictor, make_tower
from ..registry import MASK_HEAD_REGISTRY
from .distillation import mask_divergence
from .full_size import FORMATS, RESOLUTIONS, full_masks
from .loss import mask_loss

KEY = "MODEL.MASK_HEAD"


class MaskPredictions(NamedTuple):
    """The mask of a point is sigmoid(coefficients . prototypes)."""

    coefficients: Tensor  # (N, A, K)
    prototypes: Tensor  # (N, K, h, w), at twice the resolution of their feature map


class PrototypeNet(nn.Module):
    """Prototypes at twice the resolution of a feature map.

    The last layer is a SiLU, as in the published network, so prototypes are not zero-centered.
    """

    def __init__(self, in_channels: int, channels: int, num_prototypes: int) -> None:
        super().__init__()
        self.enter = ConvBlock(in_channels, channels, 3)
        self.refine = ConvBlock(channels, channels, 3)
        self.project = ConvBlock(channels, num_prototypes, 1)

    def forward(self, features: Tensor) -> Tensor:
        enlarged = F.interpolate(self.enter(features), scale_factor=2.0, mode="nearest")
        return self.project(self.refine(enlarged))


class DenseNeckPrototypeNet(nn.Module):
    """Prototypes of the published gyolo: a neck of their own, then one 1 x 1 convolution."""

    def __init__(self, in_channels: int, num_prototypes: int) -> None:
        super().__init__()
        self.neck = DenseNeck(in_channels)
        self.project = ConvBlock(in_channels, num_prototypes, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.project(self.neck(features))


PROTOTYPE_NETS = ("convolutions", "dense_neck")


@MASK_HEAD_REGISTRY.register()
class PrototypeMaskHead(nn.Module):
    """Prototypes from one map, and their coefficients for the points of all maps."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        in_features: Sequence[str] = ("p3", "p4", "p5"),
        proto_feature: str = "p3",
        num_prototypes: int = 32,
        prototype_net: str = "convolutions",
        implicit: bool = True,
        implicit_placement: str = "predictor",
        loss_weight: float = 2.5,
        resolution: str = "input",
        mask_format: str = "dense",
    ) -> None:
        """
        Args:
            input_shape: channels and strides of the feature maps.
            in_features: maps whose cells predict objects, finest first.
            proto_feature: map that prototypes are computed from.
            num_prototypes: number of prototypes.
            prototype_net: layers that compute them, "convolutions" or "dense_neck".
            implicit: whether the coefficient branches have implicit vectors.
            implicit_placement: where one of them is added, "predictor" or "tower"; see `branch`.
            loss_weight: factor of the loss.
            resolution: where masks are cropped and binarized, "input" or "fast"; see `full_masks`.
            mask_format: format of the results, "dense" or "rle".
        """
        super().__init__()
        check_range(KEY, {"NUM_PROTOTYPES": num_prototypes}, low=1)
        check_range(KEY, {"LOSS_WEIGHT": loss_weight})
        check_choice(f"{KEY}.PROTOTYPE_NET", prototype_net, PROTOTYPE_NETS)
        check_choice(f"{KEY}.RESOLUTION", resolution, RESOLUTIONS)
        check_choice(f"{KEY}.MASK_FORMAT", mask_format, FORMATS)
        check_choice(f"{KEY}.PROTO_FEATURE", proto_feature, input_shape)
        check_names("MODEL.DETECTION_HEAD.IN_FEATURES", in_features, input_shape)
        self.proto_feature = proto_feature
        self.in_features = sorted({*in_features, proto_feature})
        self.stride = input_shape[proto_feature].stride // 2
        self.loss_weight = loss_weight
        self.resolution = resolution
        self.mask_format = mask_format

        channels = input_shape[in_features[0]].channels
        width = max(channels // 4, num_prototypes)
        self.coefficient_towers, self.coefficient_predictors = nn.ModuleDict(), nn.ModuleDict()
        in_tower = adds_before_tower(implicit=implicit, placement=implicit_placement)
        for level in in_features:
            self.coefficient_towers[level] = make_tower(
                input_shape[level].channels, width, implicit_add=in_tower
            )
            self.coefficient_predictors[level] = make_predictor(
                width, num_prototypes, implicit=implicit, placement=implicit_placement
            )
        proto_channels = input_shape[proto_feature].channels
        self.prototype_net = (
            PrototypeNet(proto_channels, channels, num_prototypes)
            if prototype_net == "convolutions"
            else DenseNeckPrototypeNet(proto_channels, num_prototypes)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.MASK_HEAD
        return {
            "input_shape": input_shape,
            "in_features": cfg.MODEL.DETECTION_HEAD.IN_FEATURES,
            "proto_feature": node.PROTO_FEATURE,
            "num_prototypes": node.NUM_PROTOTYPES,
            "prototype_net": node.PROTOTYPE_NET,
            "implicit": cfg.MODEL.YOLOR.IMPLICIT,
            "implicit_placement": cfg.MODEL.YOLOR.IMPLICIT_PLACEMENT,
            "loss_weight": node.LOSS_WEIGHT,
            "resolution": node.RESOLUTION,
            "mask_format": node.MASK_FORMAT,
        }

    def forward(self, features: Mapping[str, Tensor]) -> MaskPredictions:
        return MaskPredictions(
            by_point(features, self.coefficient_towers, self.coefficient_predictors),
            keep_layout(self.prototype_net(features[self.proto_feature])),
        )

    def losses(
        self,
        predictions: MaskPredictions,
        objects: Objects,
        assignment: Assignment,
        masks: GroundTruthMasks,
    ) -> dict[str, Tensor]:
        """Weighted loss of the points that are assigned to an object."""
        loss = mask_loss(
            predictions.coefficients,
            predictions.prototypes,
            boxes=objects.boxes,
            masks=masks,
            assignment=assignment,
            stride=self.stride,
        )
        return {"loss_mask": self.loss_weight * loss}

    def misfit(self, teacher: nn.Module) -> str:
        """Why predictions cannot be compared with those of another head; "" if they can."""
        if not isinstance(teacher, PrototypeMaskHead):
            return f"its mask head is {type(teacher).__name__}"
        if teacher.stride != self.stride:
            return f"its masks have stride {teacher.stride}, those of the network {self.stride}"
        return ""

    def losses_against(
        self, predictions: MaskPredictions, teacher: MaskPredictions, points: SurePoints
    ) -> dict[str, Tensor]:
        """Weighted loss against the masks of a teacher, with any number of prototypes.

        Args:
            predictions: of this head.
            teacher: predictions of the teacher's head for the same images.
            points: that the teacher is sure of.
        """
        loss = mask_divergence(predictions, teacher, points, stride=self.stride)
        return {"loss_mask_teacher": self.loss_weight * loss}

    @torch.no_grad()
    def inference(
        self,
        predictions: MaskPredictions,
        *,
        image: int,
        boxes: Tensor,
        point_index: Tensor,
        content: Content,
        height: int,
        width: int,
    ) -> Tensor | RLEMasks:
        """Masks of the detections of one image, at the size of the image.

        Args:
            predictions: predictions for the batch.
            image: index of the image in the batch.
            boxes: (D, 4) of the detections, in pixels of the canvas.
            point_index: (D,) points that predicted them.
            content: position of the image on the canvas.
            height, width: size of the image.

        Returns:
            (D, height, width) bool, or RLEMasks.
        """
        return full_masks(
            predictions.coefficients[image, point_index],
            predictions.prototypes[image],
            boxes,
            stride=self.stride,
            content=content,
            height=height,
            width=width,
            resolution=self.resolution,
            mask_format=self.mask_format,
        )
