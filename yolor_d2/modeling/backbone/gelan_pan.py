"""GELANPAN: GELAN with the neck of YOLOv9 or gyolo."""

from collections.abc import Collection
from functools import partial
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor

from ..layers import PSA, SPPELAN, RepNCSPELAN
from ..layers.functional import concatenate, upsample
from .features import check_factors, requested_features, scaled
from .gelan import GELAN, SIZES, gelan_shapes, scaled_bottlenecks
from .pan import FEATURES, NECK_INPUTS, pan_features
from .selective import SelectiveBackbone

# Stages of the neck that compute the output maps.
OUTPUTS = {"p3": "top_down3", "p4": "aggregate4", "p5": "aggregate5"}


def gelan_pan_shapes(size: str = "c", width: float = 1.0) -> dict[str, ShapeSpec]:
    """Shapes of all maps of a backbone and neck of this size and width."""
    shapes = gelan_shapes(size, width)
    neck = {
        name: ShapeSpec(channels=scaled(SIZES[size].neck[stage].out, width), stride=stride)
        for (name, stage), (_, stride) in zip(OUTPUTS.items(), FEATURES.values(), strict=True)
    }
    return shapes | {"n5": shapes["c5"]} | neck


class GELANPAN(SelectiveBackbone):
    """GELAN and a path aggregation network: maps "p3" to "p5", "n5" and those of the backbone.

    "n5" is "c5" after pooling (and attention), where the path from coarse to fine starts
    (`top_down4`, `top_down3`); `aggregate4` and `aggregate5` are the path back. Only the parts that
    `out_features` need are built, so that every parameter gets a gradient.
    """

    @configurable
    def __init__(
        self,
        *,
        out_features: Collection[str] = tuple(OUTPUTS),
        size: str = "c",
        width: float = 1.0,
        depth: float = 1.0,
        attention: bool = False,
        detached_half: bool = False,
        in_channels: int = 3,
    ) -> None:
        """
        Args:
            out_features: names of the output maps, of "c2" to "c5", "n5", "p3" to "p5".
            size: published network: "t", "s", "m" or "c".
            width: factor of its numbers of channels.
            depth: factor of its numbers of bottlenecks.
            attention: whether the coarsest map passes self-attention, as in gyolo.
            detached_half: whether the second half of the channels of "p3", "p4" and "p5" has
                convolutions of its own, which send no gradient to the other layers, as in gyolo.
            in_channels: channels of the image.
        """
        check_factors(width, depth, node="MODEL.GELAN")
        shapes = gelan_pan_shapes(size, width)
        super().__init__(shapes, out_features, key="MODEL.PAN.OUT_FEATURES")
        names = list(self._output_shape)
        self.bottom_up = GELAN(
            out_features=_bottom_up_names(names),
            size=size,
            width=width,
            depth=depth,
            in_channels=in_channels,
        )
        if not _needs(names, "n5", *OUTPUTS):
            return
        published = SIZES[size]
        c3, c4, c5 = (shapes[name].channels for name in NECK_INPUTS)
        bottlenecks = scaled_bottlenecks(size, depth)

        self.spp = SPPELAN(c5, c5)
        self.attention = PSA(c5) if attention else None
        if not _needs(names, *OUTPUTS):
            return
        n4, width4 = (scaled(number, width) for number in published.neck["top_down4"][:2])
        p3, width3 = (scaled(number, width) for number in published.neck["top_down3"][:2])
        self.top_down4 = RepNCSPELAN(c5 + c4, n4, width=width4, bottlenecks=bottlenecks)
        output = partial(RepNCSPELAN, bottlenecks=bottlenecks, detached_half=detached_half)
        self.top_down3 = output(n4 + c3, p3, width=width3)
        if _needs(names, "p4", "p5"):
            p4, part, down = (scaled(number, width) for number in published.neck["aggregate4"])
            self.down4 = published.downsampling(p3, down)
            self.aggregate4 = output(down + n4, p4, width=part)
        if _needs(names, "p5"):
            p5, part, down = (scaled(number, width) for number in published.neck["aggregate5"])
            self.down5 = published.downsampling(p4, down)
            self.aggregate5 = output(down + c5, p5, width=part)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        arguments = GELAN.from_config(cfg, input_shape)
        return arguments | {
            "out_features": pan_features(cfg, gelan_pan_shapes()),
            "attention": cfg.MODEL.GELAN.ATTENTION,
            "detached_half": cfg.MODEL.GELAN.DETACHED_HALF,
        }

    def forward(self, x: Tensor, features: Collection[str] | None = None) -> dict[str, Tensor]:
        requested = requested_features(features, self._output_shape)
        maps = self.bottom_up(x, _bottom_up_names(requested))
        needs_neck = _needs(requested, "n5", *OUTPUTS)
        neck = self.run(self._neck, maps, requested) if needs_neck else {}
        return {name: neck[name] if name in neck else maps[name] for name in requested}

    def _neck(self, maps: dict[str, Tensor], requested: Collection[str]) -> dict[str, Tensor]:
        n5 = self.spp(maps["c5"])
        if self.attention is not None:
            n5 = self.attention(n5)
        results = {"n5": n5}
        if _needs(requested, *OUTPUTS):
            n4 = self.top_down4(concatenate([upsample(n5), maps["c4"]]))
            results["p3"] = self.top_down3(concatenate([upsample(n4), maps["c3"]]))
        if _needs(requested, "p4", "p5"):
            results["p4"] = self.aggregate4(concatenate([self.down4(results["p3"]), n4]))
        if _needs(requested, "p5"):
            results["p5"] = self.aggregate5(concatenate([self.down5(results["p4"]), n5]))
        return results


def _needs(names: Collection[str], *maps: str) -> bool:
    """Whether one of these maps is among the names."""
    return any(name in names for name in maps)


def _bottom_up_names(names: Collection[str]) -> list[str]:
    """The maps of the backbone that are needed for the named maps."""
    own = [name for name in names if name.startswith("c")]
    needed = NECK_INPUTS if _needs(names, *OUTPUTS) else ("c5",) if "n5" in names else ()
    return own + [name for name in needed if name not in own]


@BACKBONE_REGISTRY.register()
def build_gelan_pan_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> GELANPAN:
    """Backbone and neck with the maps of MODEL.PAN.OUT_FEATURES."""
    return GELANPAN(cfg, input_shape)
