"""YOLORELAN: the backbone, usable in any detectron2 model."""

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from torch import nn

from ..layers import ConvBlock, Elan, Transition
from .features import check_factors, scaled, scaled_shapes
from .fpn import build_fpn, build_retinanet_fpn, fpn_bottom_up
from .selective import StagedBackbone

# Channels of each map at width 1, and its stride.
FEATURES = {"c2": (256, 4), "c3": (512, 8), "c4": (1024, 16), "c5": (1024, 32)}
# Channels of each branch of the downsampling block, and width of the ELAN after it.
STAGES = {"c2": (128, 64), "c3": (128, 128), "c4": (256, 256), "c5": (512, 256)}


def elan_shapes(width: float = 1.0) -> dict[str, ShapeSpec]:
    """Shapes of all maps of a backbone of this width."""
    return scaled_shapes(FEATURES, width)


class YOLORELAN(StagedBackbone):
    """Four stages of efficient layer aggregation: maps "c2" to "c5" of strides 4 to 32.

    Only the stages that `out_features` need are built, so that every parameter gets a gradient.
    MODEL.BACKBONE.FREEZE_AT is not read: its default of 2 is for pretrained ResNets and would
    freeze the random initial weights when training from scratch.
    """

    @configurable
    def __init__(
        self,
        *,
        out_features: Collection[str] = tuple(FEATURES),
        width: float = 1.0,
        depth: float = 1.0,
        in_channels: int = 3,
    ) -> None:
        """
        Args:
            out_features: names of the output maps.
            width: factor of the published numbers of channels.
            depth: factor of the published numbers of chained convolutions.
            in_channels: channels of the image.
        """
        check_factors(width, depth, node="MODEL.YOLOR_ELAN")
        super().__init__(elan_shapes(width), out_features, key="MODEL.YOLOR_ELAN.OUT_FEATURES")

        stem, channels = scaled(32, width), scaled(64, width)
        self.stem = nn.Sequential(
            ConvBlock(in_channels, stem, 3),
            ConvBlock(stem, channels, 3, stride=2),
            ConvBlock(channels, channels, 3),
        )
        for name, shape in self.needed_shapes().items():
            branch, elan = (scaled(number, width) for number in STAGES[name])
            halved, down = (
                (branch, ConvBlock(channels, branch, 3, stride=2))
                if name == "c2"
                else (2 * branch, Transition(channels, branch))
            )
            stage = {
                "down": down,
                "elan": Elan(
                    halved,
                    shape.channels,
                    width=elan,
                    chain_width=elan,
                    chain_length=2 * max(1, round(2 * depth)),
                    keep_every=2,
                ),
            }
            self.add_stage(name, nn.Sequential(OrderedDict(stage)))
            channels = shape.channels

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            "out_features": cfg.MODEL.YOLOR_ELAN.OUT_FEATURES,
            "width": cfg.MODEL.YOLOR_ELAN.WIDTH,
            "depth": cfg.MODEL.YOLOR_ELAN.DEPTH,
            "in_channels": input_shape.channels,
        }


@BACKBONE_REGISTRY.register()
def build_yolor_elan_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> YOLORELAN:
    """Backbone with the maps of MODEL.YOLOR_ELAN.OUT_FEATURES."""
    return YOLORELAN(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_yolor_elan_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """detectron2's FPN on the maps of MODEL.FPN.IN_FEATURES, with "p6", a max-pooled "p5"."""
    return build_fpn(cfg, fpn_bottom_up(YOLORELAN, cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_retinanet_yolor_elan_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """detectron2's FPN on the maps of MODEL.FPN.IN_FEATURES, with "p6" and "p7" from "c5"."""
    return build_retinanet_fpn(cfg, fpn_bottom_up(YOLORELAN, cfg, input_shape))
