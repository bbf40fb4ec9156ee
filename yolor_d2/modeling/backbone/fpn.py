"""detectron2's FPN on our backbones."""

from typing import TypeVar

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from ...errors import ConfigError
from .features import chosen_features
from .selective import StagedBackbone

Trunk = TypeVar("Trunk", bound=StagedBackbone)
KEY = "MODEL.FPN.IN_FEATURES"
NAMES = ("c2", "c3", "c4", "c5")


def fpn_bottom_up(trunk: type[Trunk], cfg: CfgNode, input_shape: ShapeSpec) -> Trunk:
    """Backbone of this class with only the maps that the FPN reads."""
    names = chosen_features(cfg.MODEL.FPN.IN_FEATURES, NAMES, key=KEY)
    if "c5" not in names:
        raise ConfigError(f"{KEY} must have c5, which the coarsest levels are computed from")
    arguments = trunk.from_config(cfg, input_shape)
    return trunk(**(arguments | {"out_features": names}))


def build_fpn(cfg: CfgNode, bottom_up: StagedBackbone) -> FPN:
    """FPN with "p6", a max-pooled "p5"."""
    return _fpn(cfg, bottom_up, LastLevelMaxPool())


def build_retinanet_fpn(cfg: CfgNode, bottom_up: StagedBackbone) -> FPN:
    """FPN with "p6" and "p7" from "c5"."""
    channels = bottom_up.output_shape()["c5"].channels
    return _fpn(cfg, bottom_up, LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, "c5"))


def _fpn(cfg: CfgNode, bottom_up: StagedBackbone, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=list(bottom_up.output_shape()),
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
