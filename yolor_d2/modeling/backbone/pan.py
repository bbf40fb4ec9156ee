"""PAN: the backbone with a neck that exchanges information between scales."""

from collections.abc import Callable, Collection, Sequence
from functools import partial, reduce
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor

from ...errors import ConfigError
from ..layers import SPPCSPC, ConvBlock, Elan, Transition
from ..layers.functional import concatenate, upsample
from .features import (
    check_factors,
    chosen_features,
    requested_features,
    scaled,
    scaled_shapes,
)
from .selective import SelectiveBackbone
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


def pan_shapes(width: float = 1.0, bottom_up: Backbone | None = None) -> dict[str, ShapeSpec]:
    """Shapes of all maps of a neck of this width and its backbone; None: YOLORELAN."""
    shapes = elan_shapes(width)
    if bottom_up is not None:
        outputs = bottom_up.output_shape()
        shapes = {name: outputs[own] for name, own in _names_by_stride(bottom_up).items()}
    return shapes | scaled_shapes(FEATURES, width)


class PAN(SelectiveBackbone):
    """A backbone and a path aggregation network: maps "p3" to "p5" and those of the backbone.

    The neck has a path from coarse to fine (`top_down4`, `top_down3`) and one back (`aggregate4`,
    `aggregate5`). Only the parts that `out_features` need are built, so that every parameter gets a
    gradient; YOLORELAN is built here for the same reason. Maps of another backbone are named after
    their strides: 4 is "c2", 8 "c3", 16 "c4" and 32 "c5".
    """

    bottom_up: Backbone

    @configurable
    def __init__(
        self,
        *,
        out_features: Collection[str] = tuple(FEATURES),
        width: float = 1.0,
        depth: float = 1.0,
        in_channels: int = 3,
        bottom_up: Backbone | None = None,
    ) -> None:
        """
        Args:
            out_features: names of the output maps, of "c2" to "c5" and "p3" to "p5".
            width: factor of the published numbers of channels.
            depth: factor of the published numbers of chained convolutions.
            in_channels: channels of the image; not used with `bottom_up`.
            bottom_up: backbone with maps of strides 8, 16 and 32; None: YOLORELAN of this width and
                depth.
        """
        check_factors(width, depth, node="MODEL.YOLOR_ELAN")
        shapes = pan_shapes(width, bottom_up)
        super().__init__(shapes, out_features, key="MODEL.PAN.OUT_FEATURES")
        names = list(self._output_shape)
        if bottom_up is None:
            needed = _needed_names(names)
            bottom_up = YOLORELAN(
                out_features=needed, width=width, depth=depth, in_channels=in_channels
            )
            self._bottom_up_names = {name: name for name in needed}  # ours -> the backbone's
        else:
            self._bottom_up_names = _names_by_stride(bottom_up)
        self.bottom_up = bottom_up
        if _needs_neck(names):
            inputs = [shapes[name].channels for name in NECK_INPUTS]
            self._add_neck(names, inputs, partial(scaled, width=width), max(1, round(4 * depth)))

    def _add_neck(
        self,
        names: Sequence[str],
        inputs: Sequence[int],
        c: Callable[[int], int],
        chain_length: int,
    ) -> None:
        """Build the parts that the maps need.

        Args:
            names: of the output maps.
            inputs: channels of "c3", "c4" and "c5".
            c: scales published numbers of channels.
            chain_length: number of convolutions of each ELAN.
        """
        wide_elan = partial(Elan, chain_length=chain_length, keep_every=1)
        c3, c4, c5 = inputs
        self.spp = SPPCSPC(c5, c(512))
        self.reduce5 = ConvBlock(c(512), c(256), 1)
        self.lateral4 = ConvBlock(c4, c(256), 1)
        self.top_down4 = wide_elan(2 * c(256), c(256), width=c(256), chain_width=c(128))
        self.reduce4 = ConvBlock(c(256), c(128), 1)
        self.lateral3 = ConvBlock(c3, c(128), 1)
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
        name = cfg.MODEL.PAN.BOTTOM_UP
        bottom_up = BACKBONE_REGISTRY.get(name)(cfg, input_shape) if name else None
        return {
            "out_features": pan_features(cfg, pan_shapes(bottom_up=bottom_up)),
            "width": cfg.MODEL.YOLOR_ELAN.WIDTH,
            "depth": cfg.MODEL.YOLOR_ELAN.DEPTH,
            "in_channels": input_shape.channels,
            "bottom_up": bottom_up,
        }

    def forward(self, x: Tensor, features: Collection[str] | None = None) -> dict[str, Tensor]:
        requested = requested_features(features, self._output_shape)
        maps = self._bottom_up_maps(x, _needed_names(requested))
        neck = self.run(self._neck, maps, requested) if _needs_neck(requested) else {}
        return {name: neck[name] if name in neck else maps[name] for name in requested}

    def _bottom_up_maps(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        own = {name: self._bottom_up_names[name] for name in names}
        is_selective = isinstance(self.bottom_up, SelectiveBackbone)
        maps = self.bottom_up(x, list(own.values())) if is_selective else self.bottom_up(x)
        return {name: maps[own_name] for name, own_name in own.items()}

    def _neck(self, maps: dict[str, Tensor], requested: Collection[str]) -> dict[str, Tensor]:
        results = {}
        top5 = self.spp(maps["c5"])
        top4 = self.top_down4(
            concatenate([self.lateral4(maps["c4"]), upsample(self.reduce5(top5))])
        )
        top3 = self.top_down3(
            concatenate([self.lateral3(maps["c3"]), upsample(self.reduce4(top4))])
        )
        if "p3" in requested:
            results["p3"] = self.output3(top3)
        if "p4" in requested or "p5" in requested:
            middle4 = self.aggregate4(self.down4(top3, top4))
        if "p4" in requested:
            results["p4"] = self.output4(middle4)
        if "p5" in requested:
            results["p5"] = self.output5(self.aggregate5(self.down5(middle4, top5)))
        return results


def _needs_neck(names: Sequence[str]) -> bool:
    return any(name in FEATURES for name in names)


def _names_by_stride(bottom_up: Backbone) -> dict[str, str]:
    """Our names of a backbone's maps, "c2" to "c5", and its own; of equal strides the last one."""
    by_stride = {shape.stride: name for name, shape in bottom_up.output_shape().items()}
    names = {f"c{level}": by_stride.get(2**level) for level in range(2, 6)}
    missing = [str(2 ** int(name[1])) for name in NECK_INPUTS if names[name] is None]
    if missing:
        outputs = ", ".join(f"{name} ({stride})" for stride, name in by_stride.items())
        raise ConfigError(
            f"MODEL.PAN.BOTTOM_UP: the backbone has no map of stride {', '.join(missing)}; "
            f"its maps and strides are {outputs}"
        )
    return {name: own for name, own in names.items() if own is not None}


def _needed_names(names: Sequence[str]) -> list[str]:
    """The maps of the backbone that are needed for the named maps."""
    own = [name for name in names if name not in FEATURES]
    return own + [name for name in NECK_INPUTS if _needs_neck(names) and name not in own]


def pan_features(cfg: CfgNode, shapes: Collection[str]) -> list[str]:
    """MODEL.PAN.OUT_FEATURES; if it is empty, the maps that the heads of YOLOR read.

    Args:
        cfg: configuration.
        shapes: names of all maps that the neck can compute.

    Raises:
        ValueError: a head reads a map that does not exist; the message names its key.
    """
    names = cfg.MODEL.PAN.OUT_FEATURES
    if cfg.MODEL.META_ARCHITECTURE != "YOLOR":
        return names or list(FEATURES)
    known = names or list(shapes)
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
