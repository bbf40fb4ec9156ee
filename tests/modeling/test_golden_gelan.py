"""GELAN and its neck against the published networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from yolor_d2.checkpoint.published.gelan_trunk import BACKBONE, LAYOUTS, PATHS, trunk
from yolor_d2.checkpoint.published.network import BLOCK
from yolor_d2.modeling.backbone import GELANPAN
from yolor_d2.modeling.deploy import deploy

from .golden import golden_arrays, golden_input, manifest, reference_state_dict
from .test_golden_backbone import recorded, statistics

NORM_EPS = 1e-3
# Manifest, size of the input, and arguments of our network, by layout.
GYOLO = {"attention": True, "detached_half": True}
NETWORKS = {
    "v9-s": ("mit-v9-s", "64x96", {"size": "s"}),
    "v9-c": ("mit-v9-c", "64x96", {"size": "c"}),
    "gelan-c": ("gelan-c-pan", "64x96", {"size": "c"}),
    "gyolo": ("gyolo", "160x160", {"size": "c", **GYOLO}),
}
# Towers of the head: layer, branches of a level in the order of the stored channels.
MIT_BRANCHES = {"bins": "22.heads.{}.anchor_conv", "logits": "22.heads.{}.class_conv"}
HEADS = {
    "v9-s": MIT_BRANCHES,
    "v9-c": MIT_BRANCHES,
    "gelan-c": {"raw": ("model.22.cv2.{}", "model.22.cv3.{}")},
    "gyolo": {"raw": ("model.55.cv6.{}", "model.55.cv7.{}")},
}
COUNTS = {
    "v9-t": ("mit-v9-t", {"size": "t"}),
    "v9-m": ("mit-v9-m", {"size": "m"}),
} | {name: (model, arguments) for name, (model, _, arguments) in NETWORKS.items()}


def names_of(layout: str) -> dict[str, str]:
    """Published entries of backbone and neck, and ours."""
    return {
        f"{path}.{name}": f"{our_path}.{ours}".removeprefix("backbone.")
        for path, our_path in trunk(LAYOUTS[layout])
        for name, ours in BLOCK.items()
    }


def with_golden_parameters(shared_dir: Path, layout: str, dtype: torch.dtype) -> GELANPAN:
    model, tag, arguments = NETWORKS[layout]
    published = reference_state_dict(shared_dir, model, tag)
    network = GELANPAN(**arguments)
    network.load_state_dict({ours: published[name] for name, ours in names_of(layout).items()})
    return network.eval().to(dtype)


def image_of(layout: str, dtype: torch.dtype) -> Tensor:
    height, width = map(int, NETWORKS[layout][1].split("x"))
    return golden_input(height, width).to(dtype)


def run_tower(state: dict[str, Tensor], path: str, x: Tensor) -> Tensor:
    """Convolutions with batch norm and SiLU, then a plain one; groups follow from the shapes."""
    step = 0
    while f"{path}.{step}.weight" not in state:
        block = f"{path}.{step}"
        # A depthwise convolution and a 1 x 1 convolution can be numbered within a step.
        inner = [f"{block}.{n}" for n in range(2) if f"{block}.{n}.conv.weight" in state]
        for name in inner or [block]:
            x = convolve(state, f"{name}.conv", x)
            norm = [state[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight")]
            x = F.silu(F.batch_norm(x, *norm, state[f"{name}.bn.bias"], eps=NORM_EPS))
        step += 1
    return convolve(state, f"{path}.{step}", x)


def convolve(state: dict[str, Tensor], path: str, x: Tensor) -> Tensor:
    weight = state[f"{path}.weight"]
    groups, padding = x.shape[1] // weight.shape[1], weight.shape[-1] // 2
    return F.conv2d(x, weight, state.get(f"{path}.bias"), padding=padding, groups=groups)


@pytest.mark.parametrize("layout", COUNTS)
def test_names_are_those_of_the_manifests(shared_dir: Path, layout: str) -> None:
    model, arguments = COUNTS[layout]
    names = names_of(layout)
    last = len(BACKBONE) + len(PATHS) + (2 if layout == "gyolo" else 0)
    entries = {
        name: tuple(entry["shape"])
        for name, entry in manifest(shared_dir, model).items()
        if int(name.removeprefix("model.").split(".")[0]) <= last
    }
    with torch.device("meta"):
        ours = {name: tuple(t.shape) for name, t in GELANPAN(**arguments).state_dict().items()}

    assert names.keys() == entries.keys()
    assert sorted(names.values()) == sorted(ours)
    assert {names[name]: shape for name, shape in entries.items()} == ours


@pytest.mark.parametrize(
    ("size", "backbone", "neck"),
    [
        ("t", 667_376, 771_040),
        ("s", 2_655_968, 3_068_352),
        ("m", 7_358_016, 8_163_488),
        ("c", 8_328_384, 11_618_048),
    ],
)
def test_published_numbers_of_parameters(size: str, backbone: int, neck: int) -> None:
    with torch.device("meta"):
        network = GELANPAN(size=size)

    own = sum(p.numel() for p in network.bottom_up.parameters())
    assert (own, sum(p.numel() for p in network.parameters()) - own) == (backbone, neck)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["v9-s", "v9-c", "gelan-c"])
def test_each_layer_has_the_published_numbers(shared_dir: Path, layout: str) -> None:
    """The published numbers are of a float32 run."""
    model, tag, _ = NETWORKS[layout]
    golden = golden_arrays(shared_dir, model.replace("-", "_"))
    network = with_golden_parameters(shared_dir, layout, torch.float32)

    with recorded(network) as tensors:
        network(image_of(layout, torch.float32))

    names = [*(f"bottom_up.{name}" for name in BACKBONE), "spp", *PATHS]
    found = [(layer, tensors[name]) for layer, name in enumerate(names) if name]
    layers = [layer for layer, _ in found]
    assert layers[-1] == 21
    figures, first = statistics([tensor for _, tensor in found])
    np.testing.assert_allclose(figures, golden[f"{tag}/layers"][layers], atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(first, golden[f"{tag}/layers16"][layers], atol=1e-4, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layout", NETWORKS)
def test_published_heads_on_our_maps_give_the_published_numbers(
    shared_dir: Path, layout: str
) -> None:
    """Outputs of the heads are stored in float64; those of layers are not."""
    model, tag, _ = NETWORKS[layout]
    golden = golden_arrays(shared_dir, model.replace("-", "_"))
    published = reference_state_dict(shared_dir, model, tag)
    state = {name: t.double() for name, t in published.items() if t.is_floating_point()}
    network = with_golden_parameters(shared_dir, layout, torch.float64)

    for deployed in (network, deploy(network)):
        maps = deployed(image_of(layout, torch.float64))
        for name, towers in HEADS[layout].items():
            for level, features in enumerate(maps.values()):
                paths = [towers] if isinstance(towers, str) else towers
                outputs = [run_tower(state, path.format(level), features) for path in paths]
                stored = f"{name}_p{level + 3}"
                found = torch.cat(outputs, 1).flatten()[golden[f"{tag}/idx/{stored}"]]
                expected = golden[f"{tag}/val64/{stored}"]
                np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("layout", ["v9-s", "v9-c", "gelan-c"])
def test_sum_of_the_golden_parameters(shared_dir: Path, layout: str) -> None:
    model, tag, _ = NETWORKS[layout]
    state = reference_state_dict(shared_dir, model, tag)

    total = sum(float(t.double().sum()) for t in state.values() if t.is_floating_point())

    expected = golden_arrays(shared_dir, model.replace("-", "_"))[f"{tag}/param_sum"]
    assert total == pytest.approx(float(expected), abs=1e-6)


def test_gradient_of_the_detached_half_stays_out_of_the_network() -> None:
    network = GELANPAN(size="t", width=0.25, depth=0.25, detached_half=True)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    maps = network(image)
    sum(m[:, m.shape[1] // 2 :].square().mean() for m in maps.values()).backward()

    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    trained = {name for name, gradient in gradients.items() if gradient.abs().sum() > 0}
    assert trained == {name for name, _ in network.named_parameters() if ".detached." in name}
