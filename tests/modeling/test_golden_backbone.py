"""Backbone and neck against the published network, layer by layer."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolor_d2.checkpoint.published import convert_state_dict
from yolor_d2.modeling.backbone import PAN
from yolor_d2.modeling.deploy import deploy

from .golden import golden_arrays, golden_input, reference_state_dict

TAG = "64x96"
TRUNK_LAYERS = 105
# Modules whose outputs are layers, in the order of the published table; "<": its input.
ELAN = ("shortcut", "entry", "chain.0", "chain.1", "chain.2", "chain.3", "<merge", "merge")
TRANSITION = ("pool", "pool_branch", "conv_branch.0", "conv_branch.1", "")


def layer_names() -> Iterator[str]:
    """The module of each layer of the published table; "up" is checked as a part of "<"."""
    bottom_up = "bottom_up."
    yield from (bottom_up + name for name in ("stem.0", "stem.1", "stem.2", "stage2.down"))
    yield from within(f"{bottom_up}stage2.elan", ELAN)
    for stage in (3, 4, 5):
        yield from within(f"{bottom_up}stage{stage}.down", TRANSITION)
        yield from within(f"{bottom_up}stage{stage}.elan", ELAN)
    yield "spp"
    for reduce, lateral, top_down in (
        ("reduce5", "lateral4", "top_down4"),
        ("reduce4", "lateral3", "top_down3"),
    ):
        yield from (reduce, f"up {reduce}", lateral, f"<{top_down}")
        yield from within(top_down, ELAN)
    for down, aggregate in (("down4", "aggregate4"), ("down5", "aggregate5")):
        yield from within(down, TRANSITION)
        yield from within(aggregate, ELAN)
    yield from ("output3", "output4", "output5")


def within(path: str, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        mark = "<" if name.startswith("<") else ""
        yield mark + f"{path}.{name.removeprefix('<')}".removesuffix(".")


@contextmanager
def recorded(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The input ("<path") and the output ("path") of each module, inside the context."""
    tensors: dict[str, Tensor] = {}

    def hook(name: str):
        def record(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            tensors[f"<{name}"], tensors[name] = inputs[0], output

        return record

    handles = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if name]
    yield tensors
    for handle in handles:
        handle.remove()


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> PAN:
    """The full-size network with the golden parameters."""
    state = convert_state_dict(reference_state_dict(shared_dir), "yolov7-af-pan")
    pan = PAN()
    prefix = "backbone."
    pan.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
    return pan.eval()


@torch.no_grad()
def layers(pan: PAN, image: Tensor) -> list[Tensor]:
    with recorded(pan) as tensors:
        pan(image)
    results = []
    for name in layer_names():
        if name.startswith("up "):  # concatenated by the module after it
            tensor = tensors[name.removeprefix("up ")]
            results.append(tensor.repeat_interleave(2, -1).repeat_interleave(2, -2))
        else:
            results.append(tensors[name])
    return results


def statistics(tensors: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Mean, deviation and largest magnitude of each, and its first 16 values."""
    doubles = [tensor.double().contiguous() for tensor in tensors]
    figures = [[x.mean(), x.std(correction=0), x.abs().max()] for x in doubles]
    first = [x.flatten()[:16].numpy() for x in doubles]
    return np.array(figures), np.array(first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_layer_has_the_published_numbers(
    published: PAN, shared_dir: Path, dtype: torch.dtype
) -> None:
    golden = golden_arrays(shared_dir)
    network = copy.deepcopy(published).to(dtype)

    found = layers(network, golden_input(64, 96).to(dtype))

    assert len(found) == TRUNK_LAYERS
    figures, first = statistics(found)
    # The published numbers are of a float32 run; its rounding grows through 100 layers.
    np.testing.assert_allclose(figures, golden[f"{TAG}/layers"], atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(first, golden[f"{TAG}/layers16"], atol=1e-4, rtol=1e-5)


def test_coarser_maps_are_upsampled_by_repetition(published: PAN) -> None:
    found = dict(zip(layer_names(), layers(published, golden_input(64, 96)), strict=True))

    for reduce, joined in (("reduce5", "top_down4"), ("reduce4", "top_down3")):
        enlarged = found[f"up {reduce}"]
        torch.testing.assert_close(
            found[f"<{joined}"][:, -enlarged.shape[1] :], enlarged, atol=0, rtol=0
        )


def test_a_changed_input_changes_the_numbers(published: PAN, shared_dir: Path) -> None:
    image = golden_input(64, 96)
    image[..., :8, :8] += 0.1

    figures, first = statistics(layers(published, image))

    golden = golden_arrays(shared_dir)
    assert abs(first - golden[f"{TAG}/layers16"])[-3:].max() > 1e-3
    assert abs(figures - golden[f"{TAG}/layers"])[-3:].max() > 1e-4


@torch.no_grad()
def test_folding_keeps_the_maps(published: PAN) -> None:
    network = copy.deepcopy(published).double()
    image = golden_input(64, 96).double()
    folded = deploy(network)

    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    for name, expected in network(image).items():
        torch.testing.assert_close(folded(image)[name], expected, atol=1e-10, rtol=0)


def test_sum_of_the_golden_parameters(shared_dir: Path) -> None:
    """A wrong recipe of the parameters fails here, not only in the tests of numbers."""
    state = reference_state_dict(shared_dir)

    total = sum(float(t.double().sum()) for t in state.values() if t.is_floating_point())

    assert total == pytest.approx(float(golden_arrays(shared_dir)[f"{TAG}/param_sum"]), abs=1e-6)
