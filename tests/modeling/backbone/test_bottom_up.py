"""Other backbones below our neck."""

from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_backbone
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.regnet import AnyNet, ResBasicBlock, SimpleStem
from torch import Tensor, nn

from yolor_d2.modeling.backbone import GELAN, PAN, pan_shapes
from yolor_d2.modeling.deploy import deploy

from ..factory import default_config

IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
NECK = {"width": 0.125, "depth": 0.25}


class Pyramid(Backbone):
    """Maps like those of a ViT's SimpleFeaturePyramid, and a second one of stride 32."""

    def __init__(self) -> None:
        super().__init__()
        self.strides = {"p5": 32, "p2": 4, "p3": 8, "p4": 16, "last": 32, "p6": 64}
        self.embed = nn.Conv2d(3, 8, 1)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=8, stride=stride) for name, stride in self.strides.items()}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.embed(x)
        return {name: nn.functional.avg_pool2d(x, s) for name, s in self.strides.items()}


def resnet(*names: str, norm: str = "BN", **arguments: Any) -> ResNet:
    stages = ResNet.make_default_stages(18, norm=norm)
    return ResNet(
        BasicStem(norm=norm), stages, out_features=names or ("res3", "res4", "res5"), **arguments
    )


def regnet() -> AnyNet:
    """A RegNet with one block in each stage."""
    return AnyNet(
        stem_class=SimpleStem,
        stem_width=8,
        block_class=ResBasicBlock,
        depths=[1, 1, 1, 1],
        widths=[8, 8, 16, 16],
        group_widths=[8, 8, 8, 8],
        strides=[2, 2, 2, 2],
        bottleneck_ratios=[1.0, 1.0, 1.0, 1.0],
        se_ratio=0.0,
        activation_class=nn.ReLU,
        out_features=["s2", "s3", "s4"],
    )


TRUNKS = {
    "ResNet": resnet,
    "RegNet": regnet,
    "GELAN": lambda: GELAN(size="t", width=0.25, out_features=["c3", "c4", "c5"]),
    "pyramid": Pyramid,
}


@pytest.mark.parametrize("name", TRUNKS)
def test_maps_have_the_declared_shapes_and_train(name: str) -> None:
    torch.manual_seed(0)
    pan = PAN(bottom_up=TRUNKS[name](), **NECK)

    maps = pan(IMAGE)

    assert list(maps) == ["p3", "p4", "p5"]
    for level, tensor in maps.items():
        shape = pan_shapes(0.125)[level]
        assert tensor.shape == (2, shape.channels, 64 // shape.stride, 96 // shape.stride)
    sum(m.square().mean() for m in maps.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pan.parameters())


def test_maps_of_the_backbone_are_named_after_their_strides() -> None:
    bottom_up = resnet("res2", "res3", "res4", "res5")
    pan = PAN(bottom_up=bottom_up, out_features=["c2", "c4", "p3"], **NECK).eval()

    maps, own = pan(IMAGE), bottom_up(IMAGE)

    assert list(maps) == ["c2", "c4", "p3"]
    assert pan.output_shape()["c2"] == bottom_up.output_shape()["res2"]
    torch.testing.assert_close(maps["c2"], own["res2"], atol=0, rtol=0)
    torch.testing.assert_close(maps["c4"], own["res4"], atol=0, rtol=0)


def test_the_last_of_several_maps_of_a_stride_is_read() -> None:
    trunk = Pyramid()

    maps = PAN(bottom_up=trunk, out_features=["c5"], **NECK)(IMAGE)

    torch.testing.assert_close(maps["c5"], trunk(IMAGE)["last"], atol=0, rtol=0)


def test_missing_strides_are_named() -> None:
    message = r"MODEL\.PAN\.BOTTOM_UP: .* no map of stride 8, 32; .* are res2 \(4\), res4 \(16\)$"
    with pytest.raises(ValueError, match=message):
        PAN(bottom_up=resnet("res2", "res4"), **NECK)


def test_our_own_backbone_computes_only_the_maps_that_are_read() -> None:
    trunk = GELAN(size="t", width=0.25)
    pan = PAN(bottom_up=trunk, out_features=["c2", "p3"], **NECK)
    run: list[str] = []
    for name, child in trunk.named_children():
        child.register_forward_hook(lambda *_, name=name: run.append(name))

    pan(IMAGE, features=["c2"])

    assert run == ["stem", "stage2"]


def test_folding_keeps_the_maps_and_frozen_layers() -> None:
    torch.manual_seed(0)
    pan = PAN(bottom_up=resnet(norm="FrozenBN", freeze_at=2), **NECK).eval().double()

    frozen = [name for name, p in pan.bottom_up.named_parameters() if not p.requires_grad]
    assert {name.split(".")[0] for name in frozen} == {"stem", "res2"}
    torch.testing.assert_close(deploy(pan)(IMAGE.double()), pan(IMAGE.double()), atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("build_resnet_backbone", ["MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]]),
        ("build_gelan_backbone", ["MODEL.GELAN.WIDTH", 0.125]),
        ("build_gelan_pan_backbone", ["MODEL.GELAN.WIDTH", 0.125]),
    ],
)
def test_from_a_configuration(name: str, overrides: list[Any]) -> None:
    cfg = default_config("MODEL.BACKBONE.NAME", "build_yolor_elan_pan_backbone", *overrides)
    cfg.MODEL.PAN.BOTTOM_UP, cfg.MODEL.YOLOR_ELAN.WIDTH = name, 0.125
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64

    pan = build_backbone(cfg)

    assert isinstance(pan, PAN)
    assert list(pan(IMAGE)) == ["p3", "p4", "p5"]


def test_from_a_lazy_configuration() -> None:
    trunk = L(ResNet)(
        stem=L(BasicStem)(norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=18, norm="FrozenBN"),
        out_features=["res3", "res4", "res5"],
    )

    pan = instantiate(L(PAN)(bottom_up=trunk, **NECK))

    assert list(pan(IMAGE)) == ["p3", "p4", "p5"]


def test_state_dict_of_our_own_network_keeps_its_order() -> None:
    names = [name.split(".")[0] for name in PAN(**NECK).state_dict()]

    assert list(dict.fromkeys(names)) == [
        *("bottom_up", "spp", "reduce5", "lateral4", "top_down4", "reduce4", "lateral3"),
        *("top_down3", "output3", "down4", "aggregate4", "output4", "down5", "aggregate5"),
        "output5",
    ]


@pytest.mark.parametrize("name", ["width", "depth"])
def test_factors_of_the_neck_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=rf"MODEL\.YOLOR_ELAN\.{name.upper()} must be positive"):
        PAN(**(NECK | {name: -1.0}), bottom_up=Pyramid())
