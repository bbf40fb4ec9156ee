"""Muon: which weights, the direction of a step, its size, AdamW for the rest."""

import copy
import re

import pytest
import torch
from torch import nn

from yolor_d2.engine.optim.muon import Muon, orthogonalize
from yolor_d2.engine.optim.optimizer import build_optimizer, load_by_names, make_optimizer, names_of
from yolor_d2.engine.optim.schedule import Schedule

from ...modeling.factory import tiny_config, tiny_model
from ...modeling.gyolo import GYOLO

SETTINGS = {"name": "MUON", "lr": 0.1, "weight_decay": 0.2, "momentum": 0.9}
OTHERS = re.compile(
    r"implicit|norm|bias|positions|words|_predictors|predictor\.|caption_head\.output"
)


def matrix_names(model: nn.Module) -> set[str]:
    optimizer = build_optimizer(tiny_config((), "SOLVER.OPTIMIZER", "MUON"), model)
    chosen = {id(p) for g in optimizer.param_groups if g["is_matrix"] for p in g["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in chosen}


def test_weights_of_hidden_layers_are_chosen() -> None:
    model = tiny_model()
    found = matrix_names(model)
    assert found == {n for n, _ in model.named_parameters() if not OTHERS.search(n)}
    assert "backbone.bottom_up.stem.0.conv.weight" in found
    assert "caption_head.decoder.layers.0.text_attention.output.weight" in found


def test_grouped_convolutions_and_separate_output_layers_are_not() -> None:
    model = tiny_model(("detection", "mask", "semantic", "caption"), *GYOLO)
    found = matrix_names(model)
    grouped = {
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    }
    assert grouped
    assert not found & grouped
    assert not any(OTHERS.search(name.replace("normal", "")) for name in found)


@pytest.mark.parametrize("shape", [(3, 8, 5), (3, 5, 8), (2, 6, 6), (1, 1, 4)])
def test_singular_values_become_about_1(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor([1e-3, 1.0, 1e6])[: shape[0], None, None]
    result = orthogonalize(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = torch.linalg.svdvals(result)
    assert found.min() > 0.3
    assert found.max() < 1.3
    # The singular vectors stay.
    mixed = left.mT @ result @ right.mT
    torch.testing.assert_close(mixed, torch.diag_embed(mixed.diagonal(dim1=1, dim2=2)))
    for one, whole in zip(matrices, result, strict=True):
        torch.testing.assert_close(orthogonalize(one[None])[0], whole)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-25, 1e-40])
def test_no_gradient_no_update(size: float) -> None:
    """A branch that no object needs keeps a fading momentum, whose squares underflow."""
    torch.manual_seed(0)
    assert orthogonalize(size * torch.randn(2, 3, 4)).abs().max() < 0.1


def test_steps_by_hand() -> None:
    """Two convolutions of the same shape and a linear layer, over two steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3), nn.Linear(3, 2))
    model[0].to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, **SETTINGS)
    assert isinstance(optimizer, Muon)
    expected = {n: p.detach().clone() for n, p in model.named_parameters() if n.endswith("weight")}
    moments = {name: torch.zeros_like(value) for name, value in expected.items()}
    for _ in range(2):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            if name in expected:
                moments[name] = 0.9 * moments[name] + 0.1 * parameter.grad
                direction = 0.1 * parameter.grad + 0.9 * moments[name]
                rows, columns = len(direction), direction[0].numel()
                update = orthogonalize(direction.reshape(1, rows, columns)).view(direction.shape)
                size = 0.2 * max(rows, columns) ** 0.5
                expected[name] = expected[name] * (1 - 0.1 * 0.2) - 0.1 * size * update
        optimizer.step()
    for name, value in expected.items():
        torch.testing.assert_close(model.get_parameter(name), value)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs PyTorch 2.9")
def test_steps_are_those_of_pytorch() -> None:
    """PyTorch's own, which is for matrices only and computes in bfloat16."""
    torch.manual_seed(0)
    mine = nn.Linear(24, 40, bias=False)
    theirs = copy.deepcopy(mine)
    before = mine.weight.detach().clone()
    options = {"lr": 0.1, "weight_decay": 0.2, "momentum": 0.9}
    optimizers = [
        make_optimizer(mine, **SETTINGS),
        torch.optim.Muon(theirs.parameters(), adjust_lr_fn="match_rms_adamw", **options),
    ]
    for _ in range(3):
        mine.weight.grad = torch.randn_like(mine.weight)
        theirs.weight.grad = mine.weight.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    difference = (mine.weight - theirs.weight).norm() / (mine.weight - before).norm()
    assert difference < 0.02


def test_other_parameters_have_adamw() -> None:
    torch.manual_seed(0)
    model = tiny_model(("detection",))
    twin = copy.deepcopy(model)
    muon, adamw = make_optimizer(model, **SETTINGS), make_optimizer(twin, lr=0.1, weight_decay=0.2)
    for _ in range(2):
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        muon.step()
        adamw.step()
    matrices = matrix_names(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, twin.get_parameter(name)) == (name not in matrices), name
    assert len(muon.param_groups) == 4  # matrices, output layers, vectors, biases


def test_weights_without_gradient_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = make_optimizer(model, **SETTINGS)
    before = model[1].weight.detach().clone()
    model[0].weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(model[1].weight, before)
    assert model[1].weight not in optimizer.state


def test_momentum_warms_up_like_the_first_beta() -> None:
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(model, **SETTINGS)
    schedule = Schedule("fixed", total=10, warmup_iters=4, warmup_momentum=0.5)
    schedule.apply(optimizer, 2)
    matrices, vectors = optimizer.param_groups
    assert matrices["momentum"] == vectors["betas"][0] == pytest.approx(0.7)
    assert "betas" not in matrices


def test_state_is_loaded_by_names_when_groups_change() -> None:
    model = tiny_model(("detection",))
    before = make_optimizer(model, **SETTINGS)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before.step()
    after = make_optimizer(model, **SETTINGS, lr_factors=[("detection_head", 0.5)])
    load_by_names(after, model, before.state_dict(), names=names_of(before, model))
    for name in matrix_names(model):
        parameter = model.get_parameter(name)
        saved = before.state[parameter]["momentum_buffer"]
        assert torch.equal(after.state[parameter]["momentum_buffer"], saved)


def test_scaled_gradients_in_half_precision_give_the_same_step() -> None:
    """The scaler divides them before the step, as `TrainStep` does."""
    torch.manual_seed(0)
    plain, scaled = nn.Linear(3, 4), nn.Linear(3, 4)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(5, 3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    first, second = make_optimizer(plain, **SETTINGS), make_optimizer(scaled, **SETTINGS)
    plain(x).square().mean().backward()
    first.step()
    scaler.scale(scaled(x).square().mean()).backward()
    scaler.unscale_(second)
    second.step()
    torch.testing.assert_close(plain.weight, scaled.weight)
