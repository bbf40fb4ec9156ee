"""Backbone and neck."""

import copy
import pickle
from itertools import combinations

import pytest
import torch
from detectron2.modeling import build_backbone

from yolor_d2.modeling.backbone import PAN, pan_shapes
from yolor_d2.modeling.deploy import deploy

from ..factory import default_config

NAMES = ("c2", "c3", "c4", "c5", "p3", "p4", "p5")
SUBSETS = [s for n in (1, 2, 3) for s in combinations(("c3", "p3", "p4", "p5"), n)] + [
    ("c5",),
    NAMES,
]
IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def narrow(*names: str) -> PAN:
    torch.manual_seed(0)
    return PAN(out_features=names or NAMES, width=0.125, depth=0.25)


def config(*overrides):
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE = "YOLOR"
    cfg.MODEL.BACKBONE.NAME = "build_yolor_elan_pan_backbone"
    cfg.MODEL.YOLOR_ELAN.WIDTH = 0.125
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p3"]
    cfg.merge_from_list(list(overrides))
    return cfg


def test_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        pan = PAN()

    count = sum(p.numel() for p in pan.parameters())
    assert count - sum(p.numel() for p in pan.bottom_up.parameters()) == 23_098_880
    assert count == 23_098_880 + 13_371_808


@pytest.mark.parametrize("names", SUBSETS, ids="-".join)
def test_fewer_maps_have_the_same_values(names: tuple[str, ...]) -> None:
    whole, part = narrow().eval(), narrow(*names).eval()
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()})

    expected, found = whole(IMAGE), part(IMAGE)

    assert list(found) == list(names) == list(part.output_shape())
    for name, shape in part.output_shape().items():
        assert found[name].shape == (2, shape.channels, 64 // shape.stride, 96 // shape.stride)
        assert pan_shapes(0.125)[name] == shape
        torch.testing.assert_close(found[name], expected[name], atol=0, rtol=0)
        torch.testing.assert_close(
            whole(IMAGE, features=[name])[name], expected[name], atol=0, rtol=0
        )


@pytest.mark.parametrize("names", SUBSETS, ids="-".join)
def test_every_parameter_gets_a_gradient(names: tuple[str, ...]) -> None:
    pan = narrow(*names)

    sum(m.square().mean() for m in pan(IMAGE).values()).backward()

    for name, parameter in pan.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("names", "absent"),
    [
        (("p3",), {"down4", "aggregate4", "output4", "down5", "aggregate5", "output5"}),
        (("p4",), {"output3", "down5", "aggregate5", "output5"}),
        (("p5",), {"output3", "output4"}),
        (("p3", "p5"), {"output4"}),
        (("c5",), {name for name, _ in PAN(width=0.125).named_children()} - {"bottom_up"}),
    ],
)
def test_parts_that_are_not_needed_are_not_built(names: tuple[str, ...], absent: set[str]) -> None:
    full = {name for name, _ in PAN(width=0.125).named_children()}

    assert full - {name for name, _ in narrow(*names).named_children()} == absent


def test_a_pass_computes_only_requested_maps() -> None:
    pan = narrow()
    run: list[str] = []
    for name, child in [*pan.named_children(), *pan.bottom_up.named_children()]:
        child.register_forward_hook(lambda *_, name=name: run.append(name))

    pan(IMAGE, features=["c3"])
    assert run == ["stem", "stage2", "stage3", "bottom_up"]
    run.clear()
    maps = pan(IMAGE, features={"p3", "c2"})
    assert list(maps) == ["c2", "p3"]
    assert not {"down4", "aggregate4", "output4", "aggregate5", "output5"} & set(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_features": ()}, r"MODEL\.PAN\.OUT_FEATURES is empty"),
        ({"out_features": ("p3", "p6")}, r"MODEL\.PAN\.OUT_FEATURES has p6; it may have c2, c3"),
        ({"width": -0.5}, r"MODEL\.YOLOR_ELAN\.WIDTH must be positive"),
        ({"depth": 0.0}, r"MODEL\.YOLOR_ELAN\.DEPTH must be positive"),
    ],
)
def test_errors_name_the_key(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PAN(**arguments)


def test_requesting_a_map_that_is_not_built_is_refused() -> None:
    with pytest.raises(ValueError, match="features has p4; it may have p3"):
        narrow("p3")(IMAGE, ["p4"])


@pytest.mark.parametrize(
    ("tasks", "overrides", "expected"),
    [
        (["detection"], [], ["p3", "p4", "p5"]),
        (["detection", "mask"], ["MODEL.MASK_HEAD.PROTO_FEATURE", "c2"], ["c2", "p3", "p4", "p5"]),
        (["semantic"], [], ["p3"]),
        (["caption"], ["MODEL.CAPTION_HEAD.IN_FEATURES", ["c5", "p5"]], ["c5", "p5"]),
        (["caption", "semantic"], [], ["p3", "p5"]),
        (["caption"], ["MODEL.PAN.OUT_FEATURES", ["p5", "p4"]], ["p4", "p5"]),
    ],
)
def test_default_maps_are_those_that_the_heads_read(
    tasks: list[str], overrides: list, expected: list[str]
) -> None:
    pan = build_backbone(config("MODEL.YOLOR.TASKS", tasks, *overrides))

    assert list(pan.output_shape()) == expected


def test_keys_of_absent_heads_are_ignored() -> None:
    overrides = ["MODEL.YOLOR.TASKS", ["semantic"], "MODEL.CAPTION_HEAD.IN_FEATURES", ["nothing"]]

    assert list(build_backbone(config(*overrides)).output_shape()) == ["p3"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.DETECTION_HEAD.IN_FEATURES", ["p3", "p6"]),
        ("MODEL.MASK_HEAD.PROTO_FEATURE", "p6"),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["p6"]),
        ("MODEL.CAPTION_HEAD.IN_FEATURES", ["p6", "p5"]),
    ],
)
def test_unknown_map_of_a_head_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{key} has p6; it may have c2, c3, c4, c5, p3, p4, p5"):
        build_backbone(config(key, value))


def test_map_of_a_head_that_is_not_in_out_features_is_refused() -> None:
    overrides = ["MODEL.PAN.OUT_FEATURES", ["p4", "p5"], "MODEL.YOLOR.TASKS", ["semantic"]]

    with pytest.raises(ValueError, match=r"MODEL\.SEM_SEG_HEAD\.IN_FEATURES has p3; it may have"):
        build_backbone(config(*overrides))


def test_other_architectures_get_all_maps_of_the_neck() -> None:
    pan = build_backbone(config("MODEL.META_ARCHITECTURE", "SemanticSegmentor"))

    assert list(pan.output_shape()) == ["p3", "p4", "p5"]
    assert pan.size_divisibility == 32


def test_config_and_constructor_build_the_same_network() -> None:
    from_cfg = build_backbone(config("MODEL.YOLOR_ELAN.DEPTH", 0.5))
    by_hand = PAN(width=0.125, depth=0.5)

    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (from_cfg, by_hand)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("remake", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_independent(remake) -> None:
    pan = narrow("p3", "p5").eval()
    copied = remake(pan)

    expected = pan(IMAGE)
    torch.testing.assert_close(copied(IMAGE), expected, atol=0, rtol=0)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    torch.testing.assert_close(pan(IMAGE), expected, atol=0, rtol=0)


def test_channels_last_is_preserved_and_gives_the_same_maps() -> None:
    pan = narrow().eval()
    expected = pan(IMAGE)
    pan.to(memory_format=torch.channels_last)

    found = pan(IMAGE.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for tensor in found.values():
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("features", [None, ["c2", "p3"], {"p5"}])
def test_compiles_without_graph_breaks(features) -> None:
    pan = narrow().eval()
    compiled = torch.compile(pan, fullgraph=True, backend="eager")

    torch.testing.assert_close(compiled(IMAGE, features), pan(IMAGE, features), atol=0, rtol=0)


def test_half_precision_gives_finite_maps() -> None:
    pan = narrow()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = pan(IMAGE)
    sum(m.float().square().mean() for m in maps.values()).backward()

    assert all(m.dtype is torch.bfloat16 and m.isfinite().all() for m in maps.values())
    assert all(p.grad.isfinite().all() for p in pan.parameters())


def test_folding_keeps_the_maps() -> None:
    pan = narrow().double()
    pan(IMAGE.double())  # updates the running statistics
    pan.eval()

    torch.testing.assert_close(
        deploy(pan)(IMAGE.double()), pan(IMAGE.double()), atol=1e-10, rtol=1e-8
    )
