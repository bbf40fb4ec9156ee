"""YOLORELAN: the backbone, usable in any detectron2 model."""

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn

from ..layers import ConvBlock, Elan, Transition
from .features import (
    SIZE_DIVISIBILITY,
    check_factors,
    chosen_features,
    requested_features,
    scaled,
    scaled_shapes,
)

# Channels of each map at width 1, and its stride.
FEATURES = {"c2": (256, 4), "c3": (512, 8), "c4": (1024, 16), "c5": (1024, 32)}
# Channels of each branch of the downsampling block, and width of the ELAN after it.
STAGES = {"c2": (128, 64), "c3": (128, 128), "c4": (256, 256), "c5": (512, 256)}


def elan_shapes(width: float = 1.0) -> dict[str, ShapeSpec]:
    """Shapes of all maps of a backbone of this width."""
    return scaled_shapes(FEATURES, width)


class YOLORELAN(Backbone):
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
        super().__init__()
        check_factors(width, depth)
        shapes = elan_shapes(width)
        names = chosen_features(out_features, shapes, key="MODEL.YOLOR_ELAN.OUT_FEATURES")
        self._output_shape = {name: shapes[name] for name in names}

        stem, channels = scaled(32, width), scaled(64, width)
        self.stem = nn.Sequential(
            ConvBlock(in_channels, stem, 3),
            ConvBlock(stem, channels, 3, stride=2),
            ConvBlock(channels, channels, 3),
        )
        self._stages: dict[str, str] = {}  # map -> name of the module that computes it
        for name, shape in shapes.items():
            if shape.stride > shapes[names[-1]].stride:
                break
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
            self._stages[name] = f"stage{name[1]}"
            self.add_module(self._stages[name], nn.Sequential(OrderedDict(stage)))
            channels = shape.channels

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            "out_features": cfg.MODEL.YOLOR_ELAN.OUT_FEATURES,
            "width": cfg.MODEL.YOLOR_ELAN.WIDTH,
            "depth": cfg.MODEL.YOLOR_ELAN.DEPTH,
            "in_channels": input_shape.channels,
        }

    def forward(self, x: Tensor, features: Collection[str] | None = None) -> dict[str, Tensor]:
        """Feature maps of images.

        Args:
            x: images (N, 3, H, W); H and W are multiples of 32.
            features: names of the maps to compute; None: all of `out_features`.
        """
        requested = requested_features(features, self._output_shape)
        maps = {}
        x = self.stem(x)
        for name, stage in self._stages.items():
            x = getattr(self, stage)(x)
            if name in requested:
                maps[name] = x
            if len(maps) == len(requested):
                break
        return maps

    @property
    def size_divisibility(self) -> int:
        return SIZE_DIVISIBILITY

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._output_shape)


@BACKBONE_REGISTRY.register()
def build_yolor_elan_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> YOLORELAN:
    """Backbone with the maps of MODEL.YOLOR_ELAN.OUT_FEATURES."""
    return YOLORELAN(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_yolor_elan_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """detectron2's FPN on the maps of MODEL.FPN.IN_FEATURES, with "p6", a max-pooled "p5"."""
    return _fpn(cfg, _bottom_up(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_yolor_elan_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """detectron2's FPN on the maps of MODEL.FPN.IN_FEATURES, with "p6" and "p7" from "c5"."""
    bottom_up = _bottom_up(cfg, input_shape)
    channels = bottom_up.output_shape()["c5"].channels
    return _fpn(cfg, bottom_up, LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, "c5"))


def _bottom_up(cfg: CfgNode, input_shape: ShapeSpec) -> YOLORELAN:
    """Backbone with only the maps that the FPN reads."""
    key = "MODEL.FPN.IN_FEATURES"
    names = chosen_features(cfg.MODEL.FPN.IN_FEATURES, FEATURES, key=key)
    if "c5" not in names:
        raise ValueError(f"{key} must have c5, which the coarsest levels are computed from")
    arguments = YOLORELAN.from_config(cfg, input_shape)
    return YOLORELAN(**(arguments | {"out_features": names}))


def _fpn(cfg: CfgNode, bottom_up: YOLORELAN, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=list(bottom_up.output_shape()),
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
