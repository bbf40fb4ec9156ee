"""GELAN: the backbone of YOLOv9 in its sizes, usable in any detectron2 model."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from torch import nn

from ...checks import check_choice
from ..layers import AConv, ADown, ConvBlock, Elan3x3, RepNCSPELAN
from .features import check_factors, scaled
from .fpn import build_fpn, build_retinanet_fpn, fpn_bottom_up
from .selective import StagedBackbone


class Stage(NamedTuple):
    """Channels of a stage of backbone or neck.

    Attributes:
        out: output of the stage.
        width: output of its first convolution.
        down: output of the downsampling block before it; 0: there is none.
    """

    out: int
    width: int
    down: int = 0


class Size(NamedTuple):
    """A published network.

    Attributes:
        stem: channels of the first convolution.
        stages: "c2" to "c5" of the backbone, in this order.
        neck: "top_down4", "top_down3", "aggregate4" and "aggregate5" of the neck.
        downsampling: the block between stages.
        bottlenecks: number of bottlenecks in a row.
        plain_first: whether the first stage has plain convolutions instead of bottlenecks.
    """

    stem: int
    stages: Mapping[str, Stage]
    neck: Mapping[str, Stage]
    downsampling: type[AConv] | type[ADown]
    bottlenecks: int
    plain_first: bool


STRIDES = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}
SIZES = {
    "t": Size(
        stem=16,
        stages={
            "c2": Stage(32, 32, down=32),
            "c3": Stage(64, 64, down=64),
            "c4": Stage(96, 96, down=96),
            "c5": Stage(128, 128, down=128),
        },
        neck={
            "top_down4": Stage(96, 96),
            "top_down3": Stage(64, 64),
            "aggregate4": Stage(96, 96, down=48),
            "aggregate5": Stage(128, 128, down=64),
        },
        downsampling=AConv,
        bottlenecks=3,
        plain_first=True,
    ),
    "s": Size(
        stem=32,
        stages={
            "c2": Stage(64, 64, down=64),
            "c3": Stage(128, 128, down=128),
            "c4": Stage(192, 192, down=192),
            "c5": Stage(256, 256, down=256),
        },
        neck={
            "top_down4": Stage(192, 192),
            "top_down3": Stage(128, 128),
            "aggregate4": Stage(192, 192, down=96),
            "aggregate5": Stage(256, 256, down=128),
        },
        downsampling=AConv,
        bottlenecks=3,
        plain_first=True,
    ),
    "m": Size(
        stem=32,
        stages={
            "c2": Stage(128, 128, down=64),
            "c3": Stage(240, 240, down=240),
            "c4": Stage(360, 360, down=360),
            "c5": Stage(480, 480, down=480),
        },
        neck={
            "top_down4": Stage(360, 360),
            "top_down3": Stage(240, 240),
            "aggregate4": Stage(360, 360, down=184),
            "aggregate5": Stage(480, 480, down=240),
        },
        downsampling=AConv,
        bottlenecks=1,
        plain_first=False,
    ),
    "c": Size(
        stem=64,
        stages={
            "c2": Stage(256, 128, down=128),
            "c3": Stage(512, 256, down=256),
            "c4": Stage(512, 512, down=512),
            "c5": Stage(512, 512, down=512),
        },
        neck={
            "top_down4": Stage(512, 512),
            "top_down3": Stage(256, 256),
            "aggregate4": Stage(512, 512, down=256),
            "aggregate5": Stage(512, 512, down=512),
        },
        downsampling=ADown,
        bottlenecks=1,
        plain_first=False,
    ),
}


def scaled_bottlenecks(size: str, depth: float) -> int:
    """Number of bottlenecks in a row."""
    return max(1, round(SIZES[size].bottlenecks * depth))


def gelan_shapes(size: str = "c", width: float = 1.0) -> dict[str, ShapeSpec]:
    """Shapes of all maps of a backbone of this size and width."""
    check_choice("MODEL.GELAN.SIZE", size, tuple(SIZES))
    return {
        name: ShapeSpec(channels=scaled(stage.out, width), stride=STRIDES[name])
        for name, stage in SIZES[size].stages.items()
    }


class GELAN(StagedBackbone):
    """Four stages of generalized layer aggregation: maps "c2" to "c5" of strides 4 to 32.

    Only the stages that `out_features` need are built, so that every parameter gets a gradient.
    MODEL.BACKBONE.FREEZE_AT is not read, as by YOLORELAN.
    """

    @configurable
    def __init__(
        self,
        *,
        out_features: Collection[str] = tuple(STRIDES),
        size: str = "c",
        width: float = 1.0,
        depth: float = 1.0,
        in_channels: int = 3,
    ) -> None:
        """
        Args:
            out_features: names of the output maps.
            size: published network: "t", "s", "m" or "c".
            width: factor of its numbers of channels.
            depth: factor of its numbers of bottlenecks.
            in_channels: channels of the image.
        """
        check_factors(width, depth, node="MODEL.GELAN")
        super().__init__(gelan_shapes(size, width), out_features, key="MODEL.GELAN.OUT_FEATURES")
        published, bottlenecks = SIZES[size], scaled_bottlenecks(size, depth)

        channels = scaled(published.stem, width)
        self.stem = ConvBlock(in_channels, channels, 3, stride=2)
        for name in self.needed_shapes():
            out, part, down = (scaled(number, width) for number in published.stages[name])
            is_first = name == "c2"
            stage = {
                "down": (
                    ConvBlock(channels, down, 3, stride=2)
                    if is_first
                    else published.downsampling(channels, down)
                ),
                "elan": (
                    Elan3x3(down, out, width=part)
                    if is_first and published.plain_first
                    else RepNCSPELAN(down, out, width=part, bottlenecks=bottlenecks)
                ),
            }
            self.add_stage(name, nn.Sequential(OrderedDict(stage)))
            channels = out

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            "out_features": cfg.MODEL.GELAN.OUT_FEATURES,
            "size": cfg.MODEL.GELAN.SIZE,
            "width": cfg.MODEL.GELAN.WIDTH,
            "depth": cfg.MODEL.GELAN.DEPTH,
            "in_channels": input_shape.channels,
        }


@BACKBONE_REGISTRY.register()
def build_gelan_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> GELAN:
    """Backbone with the maps of MODEL.GELAN.OUT_FEATURES."""
    return GELAN(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_gelan_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """detectron2's FPN on the maps of MODEL.FPN.IN_FEATURES, with "p6", a max-pooled "p5"."""
    return build_fpn(cfg, fpn_bottom_up(GELAN, cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_retinanet_gelan_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """detectron2's FPN on the maps of MODEL.FPN.IN_FEATURES, with "p6" and "p7" from "c5"."""
    return build_retinanet_fpn(cfg, fpn_bottom_up(GELAN, cfg, input_shape))
