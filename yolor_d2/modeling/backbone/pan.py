"""PAN: the backbone with a neck that exchanges information between scales."""

from collections.abc import Callable, Collection, Sequence
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor

from ..layers import SPPCSPC, ConvBlock, Elan, Transition
from .features import SIZE_DIVISIBILITY, chosen_features, requested_features, scaled, scaled_shapes
from .yolor_elan import YOLORELAN, elan_shapes

# Channels of each map of the neck at width 1, and its stride.
FEATURES = {"p3": (256, 8), "p4": (512, 16), "p5": (1024, 32)}
NECK_INPUTS = ("c3", "c4", "c5")
# Configuration keys with the names of the maps that the head of a task reads.
TASK_KEYS = {
    "detection": ("MODEL.DETECTION_HEAD.IN_FEATURES",),
    "mask": ("MODEL.DETECTION_HEAD.IN_FEATURES", "MODEL.MASK_HEAD.PROTO_FEATURE"),
    "semantic": ("MODEL.SEM_SEG_HEAD.IN_FEATURES",),
    "caption": ("MODEL.CAPTION_HEAD.IN_FEATURES", "MODEL.CAPTION_HEAD.REGION_FEATURE"),
}


def pan_shapes(width: float = 1.0) -> dict[str, ShapeSpec]:
    """Shapes of all maps of a backbone and neck of this width."""
    return elan_shapes(width) | scaled_shapes(FEATURES, width)


class PAN(Backbone):
    """YOLORELAN and a path aggregation network: maps "p3" to "p5" and those of the backbone.

    The neck has a path from coarse to fine (`top_down4`, `top_down3`) and one back (`aggregate4`,
    `aggregate5`). Only the parts that `out_features` need are built, so that every parameter gets a
    gradient; the backbone is built here for the same reason.
    """

    bottom_up: YOLORELAN

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
            out_features: names of the output maps, of "c2" to "c5" and "p3" to "p5".
            width: factor of the published numbers of channels.
            depth: factor of the published numbers of chained convolutions.
            in_channels: channels of the image.
        """
        super().__init__()
        shapes = pan_shapes(width)
        names = chosen_features(out_features, shapes, key="MODEL.PAN.OUT_FEATURES")
        self._output_shape = {name: shapes[name] for name in names}
        self.bottom_up = YOLORELAN(
            out_features=_bottom_up_names(names),
            width=width,
            depth=depth,
            in_channels=in_channels,
        )
        if _needs_neck(names):
            self._add_neck(names, partial(scaled, width=width), max(1, round(4 * depth)))

    def _add_neck(self, names: Sequence[str], c: Callable[[int], int], chain_length: int) -> None:
        """Build the parts that the maps need; c() scales published numbers of channels."""
        wide_elan = partial(Elan, chain_length=chain_length, keep_every=1)
        self.spp = SPPCSPC(c(1024), c(512))
        self.reduce5 = ConvBlock(c(512), c(256), 1)
        self.lateral4 = ConvBlock(c(1024), c(256), 1)
        self.top_down4 = wide_elan(2 * c(256), c(256), width=c(256), chain_width=c(128))
        self.reduce4 = ConvBlock(c(256), c(128), 1)
        self.lateral3 = ConvBlock(c(512), c(128), 1)
        self.top_down3 = wide_elan(2 * c(128), c(128), width=c(128), chain_width=c(64))
        if "p3" in names:
            self.output3 = ConvBlock(c(128), c(256), 3)
        if "p4" in names or "p5" in names:
            in_channels = 2 * c(128) + c(256)
            self.down4 = Transition(c(128), c(128))
            self.aggregate4 = wide_elan(in_channels, c(256), width=c(256), chain_width=c(128))
        if "p4" in names:
            self.output4 = ConvBlock(c(256), c(512), 3)
        if "p5" in names:
            in_channels = 2 * c(256) + c(512)
            self.down5 = Transition(c(256), c(256))
            self.aggregate5 = wide_elan(in_channels, c(512), width=c(512), chain_width=c(256))
            self.output5 = ConvBlock(c(512), c(1024), 3)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            "out_features": pan_features(cfg),
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
        maps = self.bottom_up(x, _bottom_up_names(requested))
        if _needs_neck(requested):
            maps.update(self._neck(maps, requested))  # PyTorch 2.6 cannot export `|=`
        return {name: maps[name] for name in requested}

    def _neck(self, maps: dict[str, Tensor], requested: Collection[str]) -> dict[str, Tensor]:
        results = {}
        top5 = self.spp(maps["c5"])
        top4 = self.top_down4(_upsample_and_concat(self.lateral4(maps["c4"]), self.reduce5(top5)))
        top3 = self.top_down3(_upsample_and_concat(self.lateral3(maps["c3"]), self.reduce4(top4)))
        if "p3" in requested:
            results["p3"] = self.output3(top3)
        if "p4" in requested or "p5" in requested:
            middle4 = self.aggregate4(self.down4(top3, top4))
        if "p4" in requested:
            results["p4"] = self.output4(middle4)
        if "p5" in requested:
            results["p5"] = self.output5(self.aggregate5(self.down5(middle4, top5)))
        return results

    @property
    def size_divisibility(self) -> int:
        return SIZE_DIVISIBILITY

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._output_shape)


def _needs_neck(names: Sequence[str]) -> bool:
    return any(name in FEATURES for name in names)


def _bottom_up_names(names: Sequence[str]) -> list[str]:
    """The maps of the backbone that are needed for the named maps."""
    own = [name for name in names if name not in FEATURES]
    return own + [name for name in NECK_INPUTS if _needs_neck(names) and name not in own]


def _upsample_and_concat(fine: Tensor, coarse: Tensor) -> Tensor:
    """Concatenate a map and a coarser one, upsampled by 2."""
    return torch.cat([fine, F.interpolate(coarse, scale_factor=2.0, mode="nearest")], dim=1)


def pan_features(cfg: CfgNode) -> list[str]:
    """MODEL.PAN.OUT_FEATURES; if it is empty, the maps that the heads of YOLOR read.

    Raises:
        ValueError: a head reads a map that does not exist; the message names its key.
    """
    names = cfg.MODEL.PAN.OUT_FEATURES
    if cfg.MODEL.META_ARCHITECTURE != "YOLOR":
        return names or list(FEATURES)
    known = names or list(pan_shapes())
    read = set()
    for key in dict.fromkeys(key for task in cfg.MODEL.YOLOR.TASKS for key in TASK_KEYS[task]):
        value = reduce(getattr, key.split("."), cfg)
        if value != "":  # "": no map is read
            values = [value] if isinstance(value, str) else value
            read.update(chosen_features(values, known, key=key))
    return names or sorted(read)


@BACKBONE_REGISTRY.register()
def build_yolor_elan_pan_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PAN:
    """Backbone and neck with the maps of MODEL.PAN.OUT_FEATURES."""
    return PAN(cfg, input_shape)
