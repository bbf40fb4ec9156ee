"""Semantic segmentation heads with the interface of detectron2's.

They work in detectron2's `SemanticSegmentor`, and its `SemSegFPNHead` works in `YOLOR`.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ....checks import check_names, check_range
from ....errors import ConfigError, DataError
from ...classes import named_classes, number_of_classes
from ...layers import ConvBlock, DenseNeck, ImplicitConv1x1
from .loss import focal_and_dice, map_divergence, reduce_labels

Features = dict[str, Tensor]

KEY = "MODEL.SEM_SEG_HEAD"


class SemanticHead(nn.Module):
    """Base class: predictor (last convolution), losses, detectron2's interface.

    Subclasses implement `class_maps`.
    """

    def __init__(
        self,
        *,
        in_features: Sequence[str],
        common_stride: int,
        width: int,
        num_classes: int,
        implicit: bool = True,
        num_named_classes: int | None = None,
        ignore_value: int = 255,
        focal_weight: float = 25.0,
        dice_weight: float = 1.25,
        loss_weight: float = 1.0,
    ) -> None:
        """
        Args:
            in_features: feature maps that the head reads.
            common_stride: stride of the logits.
            width: input channels of the predictor.
            num_classes: channels of the logits.
            implicit: whether the predictor has implicit vectors.
            num_named_classes: number of classes that the data have, which come first; None: all.
                The others (two in the published networks) are trained as always absent, and never
                predicted.
            ignore_value: label of pixels without a target.
            focal_weight, dice_weight: factors of the two losses.
            loss_weight: common factor of both losses.
        """
        super().__init__()
        weights = {"FOCAL_WEIGHT": focal_weight, "DICE_WEIGHT": dice_weight}
        check_range(KEY, weights | {"LOSS_WEIGHT": loss_weight})
        check_range(KEY, {"NUM_CLASSES": num_classes}, low=1)
        self.in_features = list(in_features)
        self.common_stride = common_stride
        self.num_classes = num_classes
        self.num_named_classes = num_classes if num_named_classes is None else num_named_classes
        self.ignore_value = ignore_value
        self.focal_weight = focal_weight * loss_weight
        self.dice_weight = dice_weight * loss_weight
        self.loss_weight = loss_weight
        self.predictor = ImplicitConv1x1(width, num_classes, implicit=implicit)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.SEM_SEG_HEAD
        num_classes = number_of_classes(cfg, "SEM_SEG_HEAD", "stuff_classes")
        return {
            "input_shape": input_shape,
            "in_features": node.IN_FEATURES,
            "num_classes": num_classes,
            "num_named_classes": max(named_classes(cfg, "stuff_classes").values(), default=0)
            or num_classes,
            "implicit": cfg.MODEL.YOLOR.IMPLICIT,
            "ignore_value": node.IGNORE_VALUE,
            "focal_weight": node.FOCAL_WEIGHT,
            "dice_weight": node.DICE_WEIGHT,
            "loss_weight": node.LOSS_WEIGHT,
        }

    def class_maps(self, features: Features) -> Tensor:
        """Logits (N, num_classes, h, w) at `common_stride`."""
        raise NotImplementedError

    def logits(self, features: Features) -> Tensor:
        """Logits (N, S, h, w) at `common_stride`; at inference, of the named classes only."""
        return self.predicted(self.class_maps(features))

    def predicted(self, maps: Tensor) -> Tensor:
        """Class maps without the classes that are never predicted; in training, all of them."""
        return maps if self.training else maps[:, : self.num_named_classes]

    def forward(
        self, features: Features, targets: Tensor | None = None, *, keep_logits: bool = False
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Losses or logits, as from detectron2's semantic heads.

        Args:
            features: feature maps of the backbone.
            targets: labels (N, H, W) for training, at the resolution of the canvas, of the logits,
                or one in between.
            keep_logits: whether to return the logits (N, S, h, w) in training too.

        Returns:
            In training (None, losses), else (logits (N, S, H, W) at the size of the canvas, {}).
        """
        logits = self.logits(features)
        if self.training:
            return logits if keep_logits else None, self.losses(logits, targets)
        scale = float(self.common_stride)
        return F.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=False), {}

    def losses(self, logits: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
        """Weighted losses; exactly 0 without labeled pixels."""
        if targets is None:
            raise DataError("the semantic head has no targets to train on: no sample has sem_seg")
        labels = reduce_labels(targets, (logits.shape[2], logits.shape[3]))
        focal, dice = focal_and_dice(logits, labels, ignore_value=self.ignore_value)
        return {
            "loss_sem_focal": focal * self.focal_weight,
            "loss_sem_dice": dice * self.dice_weight,
        }

    def misfit(self, teacher: nn.Module) -> str:
        """Why maps cannot be compared with those of another head; "" if they can."""
        if not isinstance(teacher, SemanticHead):
            return f"its semantic head is {type(teacher).__name__}"
        if teacher.num_named_classes == self.num_named_classes:
            return ""
        own, other = self.num_named_classes, teacher.num_named_classes
        return f"its maps have {other} classes, those of the network {own}"

    def losses_against(self, logits: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Weighted loss against the map of a teacher (N, S, h, w), at any resolution."""
        named = logits[:, : self.num_named_classes]
        return {"loss_sem_teacher": self.loss_weight * map_divergence(named, teacher)}


@SEM_SEG_HEADS_REGISTRY.register()
class UConvHead(SemanticHead):
    """The published head: a 3 x 3 and a 1 x 1 convolution on one map, then 2x upsampling."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: Sequence[str],
        **shared: Any,
    ) -> None:
        """
        Args:
            input_shape: channels and strides of the feature maps.
            in_features: the feature map that the head reads.
            **shared: arguments of SemanticHead.
        """
        shape = _only_shape(input_shape, in_features, type(self).__name__)
        super().__init__(
            in_features=in_features,
            common_stride=shape.stride // 2,
            width=shape.channels // 4,
            **shared,
        )
        self.tower = ConvBlock(shape.channels, shape.channels // 4, 3)

    def class_maps(self, features: Features) -> Tensor:
        return _upsample(self.predictor(self.tower(features[self.in_features[0]])))


@SEM_SEG_HEADS_REGISTRY.register()
class PlainSemanticHead(SemanticHead):
    """The paper's ablation "single scale": a 1 x 1 convolution on one map."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: Sequence[str],
        upsample: bool = True,
        **shared: Any,
    ) -> None:
        """
        Args:
            input_shape: channels and strides of the feature maps.
            in_features: the feature map that the head reads.
            upsample: whether logits have twice the resolution of the map.
            **shared: arguments of SemanticHead.
        """
        shape = _only_shape(input_shape, in_features, type(self).__name__)
        super().__init__(
            in_features=in_features,
            common_stride=shape.stride // 2 if upsample else shape.stride,
            width=shape.channels,
            **shared,
        )
        self.upsample = upsample

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        upsample = cfg.MODEL.SEM_SEG_HEAD.UPSAMPLE
        return super().from_config(cfg, input_shape) | {"upsample": upsample}

    def class_maps(self, features: Features) -> Tensor:
        maps = self.predictor(features[self.in_features[0]])
        return _upsample(maps) if self.upsample else maps


@SEM_SEG_HEADS_REGISTRY.register()
class MultiScaleSemanticHead(SemanticHead):
    """The paper's ablation "multi-scale", at the resolution of the finest map.

    The paper gives its size, 778.8 K parameters, but not its layers. This is a common design of
    almost that size (777.8 K, and 301 in implicit vectors): every map is brought to the channels
    and the resolution of the finest one, and their sum goes through a 3 x 3 convolution.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: Sequence[str],
        **shared: Any,
    ) -> None:
        """
        Args:
            input_shape: channels and strides of the feature maps.
            in_features: feature maps that the head reads, finest first.
            **shared: arguments of SemanticHead.
        """
        check_names(f"{KEY}.IN_FEATURES", in_features, input_shape)
        shapes = [input_shape[name] for name in in_features]
        if shapes != sorted(shapes, key=lambda shape: shape.stride):
            raise ConfigError(
                f"{KEY}.IN_FEATURES must be ordered from fine to coarse: {in_features}"
            )
        channels = shapes[0].channels
        super().__init__(
            in_features=in_features,
            common_stride=shapes[0].stride,
            width=channels // 2,
            **shared,
        )
        self.laterals = nn.ModuleDict(
            {
                name: ConvBlock(shape.channels, channels, 1)
                for name, shape in zip(in_features, shapes, strict=True)
            }
        )
        self.tower = ConvBlock(channels, channels // 2, 3)

    def class_maps(self, features: Features) -> Tensor:
        finest, *coarser = (block(features[name]) for name, block in self.laterals.items())
        for maps in coarser:
            size = finest.shape[-2:]
            finest = finest + F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        return self.predictor(self.tower(finest))


@SEM_SEG_HEADS_REGISTRY.register()
class DenseNeckSemanticHead(SemanticHead):
    """The head of the published gyolo: a neck of its own on one map, then a 1 x 1 convolution.

    Caption heads can read its `shared_map`.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: Sequence[str],
        **shared: Any,
    ) -> None:
        """
        Args:
            input_shape: channels and strides of the feature maps.
            in_features: the feature map that the head reads.
            **shared: arguments of SemanticHead.
        """
        shape = _only_shape(input_shape, in_features, type(self).__name__)
        super().__init__(
            in_features=in_features,
            common_stride=shape.stride // 2,
            width=shape.channels,
            **shared,
        )
        self.neck = DenseNeck(shape.channels)

    def shared_map(self, features: Features) -> Tensor:
        """The enlarged map (N, X, h, w) at `common_stride`, X channels as in the input."""
        return self.neck.enlarge(features[self.in_features[0]])

    def maps_from(self, shared: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) from `shared_map`."""
        return self.predictor(self.neck.smooth(shared))

    def class_maps(self, features: Features) -> Tensor:
        return self.maps_from(self.shared_map(features))


def _upsample(maps: Tensor) -> Tensor:
    """2x bilinear upsampling, with aligned corners as in the published network."""
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=True)


def _only_shape(
    input_shape: dict[str, ShapeSpec], in_features: Sequence[str], head: str
) -> ShapeSpec:
    key = f"{KEY}.IN_FEATURES"
    check_names(key, in_features, input_shape)
    if len(in_features) != 1:
        raise ConfigError(f"{key} must be one map for {head}, not {list(in_features)}")
    return input_shape[in_features[0]]
