"""The backbone alone."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone

from yolor_d2.modeling.backbone import YOLORELAN, elan_shapes

from ..factory import default_config

NAMES = ("c2", "c3", "c4", "c5")
IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def config(*overrides):
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_yolor_elan_backbone"
    cfg.merge_from_list(list(overrides))
    return cfg


def test_published_number_of_parameters() -> None:
    with torch.device("meta"):
        backbone = YOLORELAN()

    assert sum(p.numel() for p in backbone.parameters()) == 13_371_808
    channels = {name: shape.channels for name, shape in backbone.output_shape().items()}
    assert channels == {"c2": 256, "c3": 512, "c4": 1024, "c5": 1024}


@pytest.mark.parametrize(("width", "depth"), [(0.125, 0.25), (0.3, 1.0), (0.01, 0.5)])
def test_maps_have_the_declared_shapes(width: float, depth: float) -> None:
    backbone = YOLORELAN(width=width, depth=depth)

    maps = backbone(IMAGE)

    assert list(maps) == list(NAMES)
    for name, shape in backbone.output_shape().items():
        stride = shape.stride
        assert maps[name].shape == (2, shape.channels, 64 // stride, 96 // stride)
        assert elan_shapes(width)[name] == shape
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(conv.out_channels % 8 == 0 and conv.out_channels > 0 for conv in convolutions)


@pytest.mark.parametrize(("depth", "length"), [(0.1, 2), (0.5, 2), (1.0, 4), (1.5, 6), (2.0, 8)])
def test_depth_scales_the_chains(depth: float, length: int) -> None:
    assert len(YOLORELAN(width=0.125, depth=depth, out_features=["c2"]).stage2.elan.chain) == length


@pytest.mark.parametrize("names", [["c2"], ["c3"], ["c4", "c2"], ["c5"]])
def test_only_needed_stages_are_built_and_all_get_gradients(names: list[str]) -> None:
    torch.manual_seed(0)
    backbone = YOLORELAN(width=0.125, depth=0.25, out_features=names)

    maps = backbone(IMAGE)
    sum(m.square().mean() for m in maps.values()).backward()

    assert list(maps) == sorted(names)
    built = {name for name, _ in backbone.named_children()}
    assert built == {"stem"} | {f"stage{n}" for n in range(2, int(max(names)[1]) + 1)}
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_pass_stops_after_the_last_requested_map() -> None:
    backbone = YOLORELAN(width=0.125, depth=0.25).eval()
    whole = backbone(IMAGE)
    run: list[str] = []
    for name, child in backbone.named_children():
        child.register_forward_hook(lambda *_, name=name: run.append(name))

    part = backbone(IMAGE, {"c3"})

    assert run == ["stem", "stage2", "stage3"]
    assert list(part) == ["c3"]
    torch.testing.assert_close(part["c3"], whole["c3"], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_features": []}, r"MODEL\.YOLOR_ELAN\.OUT_FEATURES is empty"),
        ({"out_features": ["c2", "res5", "p3"]}, r"MODEL\.YOLOR_ELAN\.OUT_FEATURES has p3, res5;"),
        ({"width": 0}, r"MODEL\.YOLOR_ELAN\.WIDTH must be positive, not 0"),
        ({"depth": -1.0}, r"MODEL\.YOLOR_ELAN\.DEPTH must be positive, not -1\.0"),
    ],
)
def test_errors_name_the_key(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        YOLORELAN(**arguments)


def test_requesting_a_map_that_is_not_built_is_refused() -> None:
    with pytest.raises(ValueError, match="features has c5; it may have c2, c3"):
        YOLORELAN(width=0.125, out_features=["c2", "c3"])(IMAGE, ["c5"])


def test_config_and_constructor_build_the_same_backbone() -> None:
    cfg = config("MODEL.YOLOR_ELAN.WIDTH", 0.25, "MODEL.YOLOR_ELAN.DEPTH", 0.5)

    from_cfg = build_backbone(cfg)
    by_hand = YOLORELAN(width=0.25, depth=0.5)

    assert isinstance(from_cfg, YOLORELAN)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (from_cfg, by_hand)]
    assert shapes[0] == shapes[1]
    assert from_cfg.output_shape() == by_hand.output_shape()
    assert from_cfg.size_divisibility == by_hand.size_divisibility == 32


def test_images_with_another_number_of_channels() -> None:
    cfg = config(
        "MODEL.YOLOR_ELAN.WIDTH", 0.125, "MODEL.PIXEL_MEAN", [0.0], "MODEL.PIXEL_STD", [1.0]
    )

    assert build_backbone(cfg, ShapeSpec(channels=1))(IMAGE[:, :1])["c2"].shape[1] == 32


@pytest.mark.parametrize(
    "name", ["build_yolor_elan_fpn_backbone", "build_retinanet_yolor_elan_fpn_backbone"]
)
def test_in_features_of_the_fpn_are_checked(name: str) -> None:
    cfg = config("MODEL.BACKBONE.NAME", name, "MODEL.YOLOR_ELAN.WIDTH", 0.125)
    with pytest.raises(ValueError, match=r"MODEL\.FPN\.IN_FEATURES is empty"):
        build_backbone(cfg)
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4"]
    with pytest.raises(ValueError, match=r"MODEL\.FPN\.IN_FEATURES has res3, res4"):
        build_backbone(cfg)
    cfg.MODEL.FPN.IN_FEATURES = ["c3", "c4"]
    with pytest.raises(ValueError, match=r"MODEL\.FPN\.IN_FEATURES must have c5"):
        build_backbone(cfg)
    cfg.MODEL.FPN.IN_FEATURES = ["c4", "c5"]
    pyramid = build_backbone(cfg)
    assert list(pyramid.bottom_up.output_shape()) == ["c4", "c5"]
    assert list(pyramid(IMAGE)) == list(pyramid.output_shape())
