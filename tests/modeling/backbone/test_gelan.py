"""GELAN, alone and with its neck."""

import copy
import pickle
from itertools import combinations
from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from yolor_d2.modeling.backbone import GELAN, GELANPAN, gelan_pan_shapes, gelan_shapes
from yolor_d2.modeling.deploy import deploy

from ..factory import default_config

NAMES = ("c2", "c3", "c4", "c5", "n5", "p3", "p4", "p5")
SUBSETS = [s for n in (1, 2, 3) for s in combinations(("c3", "n5", "p3", "p4", "p5"), n)] + [
    ("c5",),
    NAMES,
]
SIZES = ("t", "s", "m", "c")
GYOLO = {"attention": True, "detached_half": True}
IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def narrow(*names: str, size: str = "t", **arguments: Any) -> GELANPAN:
    torch.manual_seed(0)
    return GELANPAN(
        out_features=names or NAMES, size=size, width=0.25, depth=1 / 3, **(GYOLO | arguments)
    )


def config(*overrides: Any) -> Any:
    cfg = default_config("MODEL.BACKBONE.NAME", "build_gelan_pan_backbone")
    cfg.MODEL.META_ARCHITECTURE = "YOLOR"
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p3"]
    cfg.MODEL.GELAN.WIDTH = 0.25
    cfg.merge_from_list(list(overrides))
    return cfg


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [0.25, 0.01])
def test_maps_have_the_declared_shapes(size: str, width: float) -> None:
    network = GELANPAN(out_features=NAMES, size=size, width=width)

    maps = network(IMAGE)

    assert list(maps) == list(NAMES)
    for name, shape in network.output_shape().items():
        stride = shape.stride
        assert maps[name].shape == (2, shape.channels, 64 // stride, 96 // stride)
        assert shape == gelan_pan_shapes(size, width)[name]
        if name.startswith("c"):
            assert shape == gelan_shapes(size, width)[name]


@pytest.mark.parametrize(
    ("size", "depth", "number"),
    [("s", 1.0, 3), ("s", 1 / 3, 1), ("c", 1.0, 1), ("c", 0.1, 1), ("c", 3.0, 3)],
)
def test_depth_scales_the_bottlenecks(size: str, depth: float, number: int) -> None:
    network = GELANPAN(size=size, width=0.1, depth=depth)

    for elan in (network.bottom_up.stage4.elan, network.top_down3):
        assert [len(step[0].bottlenecks) for step in elan.steps] == [number, number]


@pytest.mark.parametrize("names", SUBSETS, ids="-".join)
def test_fewer_maps_have_the_same_values(names: tuple[str, ...]) -> None:
    whole, part = narrow().eval(), narrow(*names).eval()
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()})

    expected, found = whole(IMAGE), part(IMAGE)

    assert list(found) == list(names) == list(part.output_shape())
    for name in names:
        torch.testing.assert_close(found[name], expected[name], atol=0, rtol=0)
        torch.testing.assert_close(
            whole(IMAGE, features=[name])[name], expected[name], atol=0, rtol=0
        )


@pytest.mark.parametrize("names", SUBSETS, ids="-".join)
def test_every_parameter_gets_a_gradient(names: tuple[str, ...]) -> None:
    check_two_steps(narrow(*names))


@pytest.mark.parametrize("size", SIZES)
def test_every_size_trains_two_steps(size: str) -> None:
    check_two_steps(narrow(size=size, attention=False, detached_half=False))


def check_two_steps(network: nn.Module) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        loss = sum(m.square().mean() for m in network(IMAGE).values())
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        optimizer.step()
    assert loss.isfinite()


@pytest.mark.parametrize("names", [["c2"], ["c3"], ["c4", "c2"], ["c5"]])
def test_only_needed_stages_are_built(names: list[str]) -> None:
    backbone = GELAN(out_features=names, size="t", width=0.25)

    built = {name for name, _ in backbone.named_children()}
    assert built == {"stem"} | {f"stage{n}" for n in range(2, int(max(names)[1]) + 1)}
    check_two_steps(backbone)


@pytest.mark.parametrize(
    ("names", "absent"),
    [
        (("p3",), {"down4", "aggregate4", "down5", "aggregate5"}),
        (("p4",), {"down5", "aggregate5"}),
        (("p5",), set()),
        (
            ("n5", "c2"),
            {"top_down4", "top_down3", "down4", "aggregate4", "down5", "aggregate5"},
        ),
        (("c5",), {name for name, _ in narrow().named_children()} - {"bottom_up"}),
    ],
)
def test_parts_that_are_not_needed_are_not_built(names: tuple[str, ...], absent: set[str]) -> None:
    full = {name for name, _ in narrow().named_children()}

    assert full - {name for name, _ in narrow(*names).named_children()} == absent


def test_a_pass_computes_only_requested_maps() -> None:
    network = narrow()
    run: list[str] = []
    for name, child in [*network.named_children(), *network.bottom_up.named_children()]:
        child.register_forward_hook(lambda *_, name=name: run.append(name))

    network(IMAGE, features=["c3"])
    assert run == ["stem", "stage2", "stage3", "bottom_up"]
    run.clear()
    assert list(network(IMAGE, features={"p3", "c2"})) == ["c2", "p3"]
    assert not {"down4", "aggregate4", "down5", "aggregate5"} & set(run)
    assert "top_down3" in run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_features": ()}, r"MODEL\.PAN\.OUT_FEATURES is empty"),
        ({"out_features": ("p3", "p6")}, r"MODEL\.PAN\.OUT_FEATURES has p6; it may have c2, c3"),
        ({"size": "x"}, r"MODEL\.GELAN\.SIZE must be one of t, s, m, c, not x"),
        ({"width": -0.5}, r"MODEL\.GELAN\.WIDTH must be positive"),
        ({"depth": 0.0}, r"MODEL\.GELAN\.DEPTH must be positive"),
    ],
)
def test_errors_name_the_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GELANPAN(**arguments)


def test_requesting_a_map_that_is_not_built_is_refused() -> None:
    with pytest.raises(ValueError, match="features has p4; it may have p3"):
        narrow("p3")(IMAGE, ["p4"])


@pytest.mark.parametrize(
    ("tasks", "overrides", "expected"),
    [
        (["detection"], [], ["p3", "p4", "p5"]),
        (["semantic"], [], ["p3"]),
        (["caption"], ["MODEL.CAPTION_HEAD.IN_FEATURES", ["n5"]], ["n5"]),
    ],
)
def test_default_maps_are_those_that_the_heads_read(
    tasks: list[str], overrides: list[Any], expected: list[str]
) -> None:
    network = build_backbone(config("MODEL.YOLOR.TASKS", tasks, *overrides))

    assert list(network.output_shape()) == expected


def test_config_and_constructor_build_the_same_network() -> None:
    overrides = ["MODEL.GELAN.SIZE", "s", "MODEL.GELAN.DEPTH", 0.5]
    parts = ["MODEL.GELAN.ATTENTION", True, "MODEL.GELAN.DETACHED_HALF", True]
    from_cfg = build_backbone(config(*overrides, *parts))
    by_hand = GELANPAN(size="s", width=0.25, depth=0.5, **GYOLO)

    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (from_cfg, by_hand)]
    assert shapes[0] == shapes[1]
    assert from_cfg.output_shape() == by_hand.output_shape()
    assert from_cfg.size_divisibility == by_hand.size_divisibility == 32


def test_the_backbone_alone_from_a_configuration() -> None:
    name = ["MODEL.BACKBONE.NAME", "build_gelan_backbone"]
    cfg = config(*name, "MODEL.GELAN.SIZE", "t", "MODEL.GELAN.OUT_FEATURES", ["c3"])

    backbone = build_backbone(cfg, ShapeSpec(channels=1))

    assert isinstance(backbone, GELAN)
    assert backbone(IMAGE[:, :1])["c3"].shape == (2, 16, 8, 12)


@pytest.mark.parametrize("name", ["build_gelan_fpn_backbone", "build_retinanet_gelan_fpn_backbone"])
def test_in_features_of_the_fpn_are_checked(name: str) -> None:
    cfg = config("MODEL.BACKBONE.NAME", name, "MODEL.FPN.IN_FEATURES", ["c3", "c4"])
    with pytest.raises(ValueError, match=r"MODEL\.FPN\.IN_FEATURES must have c5"):
        build_backbone(cfg)
    cfg.MODEL.FPN.IN_FEATURES = ["c4", "c5"]
    pyramid = build_backbone(cfg)
    assert list(pyramid.bottom_up.output_shape()) == ["c4", "c5"]
    assert list(pyramid(IMAGE)) == list(pyramid.output_shape())


@pytest.mark.parametrize("remake", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_independent(remake: Any) -> None:
    network = narrow().eval()
    copied = remake(network)

    expected = network(IMAGE)
    torch.testing.assert_close(copied(IMAGE), expected, atol=0, rtol=0)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    torch.testing.assert_close(network(IMAGE), expected, atol=0, rtol=0)


@pytest.mark.parametrize("size", ["t", "c"])
def test_channels_last_is_preserved_and_gives_the_same_maps(size: str) -> None:
    network = narrow(size=size).eval()
    expected = network(IMAGE)
    network.to(memory_format=torch.channels_last)

    found = network(IMAGE.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for tensor in found.values():
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_compiles_without_graph_breaks() -> None:
    network = narrow().eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")

    features = ["c2", "p3"]
    expected = network(IMAGE, features)
    torch.testing.assert_close(compiled(IMAGE, features), expected, atol=0, rtol=0)


def test_half_precision_gives_finite_maps() -> None:
    network = narrow()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = network(IMAGE)
    sum(m.float().square().mean() for m in maps.values()).backward()

    assert all(m.dtype is torch.bfloat16 and m.isfinite().all() for m in maps.values())
    assert all(p.grad.isfinite().all() for p in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_folding_keeps_the_maps(size: str) -> None:
    network = narrow(size=size).double()
    network(IMAGE.double())  # moves the running statistics
    network.eval()
    folded = deploy(network)

    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    for name, expected in network(IMAGE.double()).items():
        torch.testing.assert_close(folded(IMAGE.double())[name], expected, atol=1e-10, rtol=0)
