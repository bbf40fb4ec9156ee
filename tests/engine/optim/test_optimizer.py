"""Parameter groups, frozen parts, gradient clipping."""

import copy
from typing import Any

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import Tensor, nn

from yolor_d2.config import add_yolor_config
from yolor_d2.engine.optim.optimizer import (
    build_optimizer,
    clip_gradients,
    freeze_parts,
    keep_statistics,
    load_by_names,
    make_optimizer,
    names_of,
    parameter_groups,
)
from yolor_d2.engine.options import RunOptions

from ...modeling.factory import default_config, random_batch, tiny_config, tiny_model
from ...modeling.waiting import Counting

SETTINGS: dict[str, Any] = {
    "lr": 0.01,
    "weight_decay": 0.1,
    "weight_decay_norm": 0.0,
    "weight_decay_bias": 0.0,
    "bias_lr_factor": 1.0,
    "lr_factors": [],
}


def settings_by_name(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings of each parameter's group; each parameter is in one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    members = [(names[id(p)], group) for group in groups for p in group["params"]]
    assert len(dict(members)) == len(members)
    return {name: {k: v for k, v in g.items() if k != "params"} for name, g in members}


def test_weight_decay() -> None:
    model = tiny_model()
    found = settings_by_name(model, parameter_groups(model, **SETTINGS))

    assert found.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        weight = parameter.ndim > 1 and "implicit" not in name and "positions" not in name
        assert found[name]["weight_decay"] == (0.1 if weight else 0), name
        assert found[name]["is_bias"] == name.endswith(".bias"), name
    for undecayed in (
        "backbone.bottom_up.stem.0.norm.weight",
        "backbone.bottom_up.stem.0.norm.bias",
        "detection_head.class_predictors.p3.bias",
        "detection_head.class_predictors.p3.implicit_add",
        "mask_head.coefficient_predictors.p3.implicit_mul",
        "caption_head.decoder.norm.weight",
        "caption_head.text.positions.weight",
    ):
        assert found[undecayed]["weight_decay"] == 0
    assert found["caption_head.text.words.weight"]["weight_decay"] == 0.1


def test_our_configurations_have_no_weight_decay_of_biases() -> None:
    model = tiny_model(("semantic",))
    groups = build_optimizer(tiny_config(("semantic",)), model).param_groups
    assert {g["weight_decay"] for g in groups if g["is_bias"]} == {0}
    assert {g["weight_decay"] for g in groups if not g["is_bias"]} == {0, 0.02}


def test_groups_follow_the_order_of_the_model() -> None:
    model = tiny_model()
    groups = parameter_groups(model, **SETTINGS)
    assert len(groups) == 3  # weights; norms and vectors; biases
    order = {id(parameter): number for number, parameter in enumerate(model.parameters())}
    for group in groups:
        numbers = [order[id(p)] for p in group["params"]]
        assert numbers == sorted(numbers)
    assert [order[id(g["params"][0])] for g in groups] == [0, 1, 2]


@pytest.mark.parametrize("norm", [0.0, 0.2])
@pytest.mark.parametrize("bias", [None, 0.3])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_detectron2_keys_keep_their_meaning(norm: float, bias: float | None, factor: float) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.LayerNorm(2), nn.Linear(2, 2))
    decays = {"weight_decay": 0.1, "weight_decay_norm": norm, "weight_decay_bias": bias}
    theirs = get_default_optimizer_params(model, base_lr=0.01, bias_lr_factor=factor, **decays)
    ours = parameter_groups(model, lr=0.01, bias_lr_factor=factor, lr_factors=[], **decays)
    expected = settings_by_name(model, theirs)
    for name, found in settings_by_name(model, ours).items():
        del found["is_bias"]
        assert found == expected[name], name


def test_last_matching_factor_is_used() -> None:
    model = tiny_model()
    factors = [("backbone", 0.1), ("backbone.bottom_up.stem.1", 0.5), ("caption_head", 2.0)]
    groups = parameter_groups(model, **(SETTINGS | {"lr_factors": factors, "bias_lr_factor": 2.0}))
    found = settings_by_name(model, groups)
    assert found["backbone.bottom_up.stem.0.conv.weight"]["lr"] == pytest.approx(0.001)
    assert found["backbone.bottom_up.stem.1.conv.weight"]["lr"] == pytest.approx(0.005)
    assert found["backbone.bottom_up.stem.1.norm.bias"]["lr"] == pytest.approx(0.01)
    assert found["caption_head.text.words.weight"]["lr"] == pytest.approx(0.02)
    assert found["semantic_head.predictor.weight"]["lr"] == 0.01


def test_shared_parameter_is_optimized_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model.append(model[2])
    settings_by_name(model, parameter_groups(model, **SETTINGS))


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_step_by_hand(name: str) -> None:
    """A weight 1 with gradient 0.5, and a bias 1 with gradient 0, which only decay could change."""
    model = nn.Linear(1, 1)
    cfg = default_config(
        *("SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.1, "SOLVER.WEIGHT_DECAY", 0.2),
        *("SOLVER.BETAS", [0.8, 0.9], "SOLVER.EPS", 0.25, "SOLVER.MOMENTUM", 0.5),
        *("SOLVER.NESTEROV", True, "SOLVER.WEIGHT_DECAY_BIAS", 0.0),
    )
    optimizer = build_optimizer(cfg, model)
    for parameter, gradient in ((model.weight, 0.5), (model.bias, 0.0)):
        nn.init.ones_(parameter)
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    expected = {
        "AdamW": 1 - 0.1 * 0.2 - 0.1 * 0.5 / (0.5 + 0.25),
        "SGD": 1 - 0.1 * (1 + 0.5) * (0.5 + 0.2),
    }
    assert model.weight.item() == pytest.approx(expected[name])
    assert model.bias.item() == 1


def test_unknown_prefixes_are_refused() -> None:
    model = tiny_model(("semantic",))
    parts = "backbone, semantic_head"
    for key, call in {
        "LR_FACTORS": lambda: make_optimizer(
            model, lr=0.1, weight_decay=0, lr_factors=[("backbone", 0.1), ("caption_haed", 2.0)]
        ),
        "FREEZE": lambda: freeze_parts(model, ["caption_haed"]),
    }.items():
        with pytest.raises(ValueError, match=rf"SOLVER\.{key} has 'caption_haed'.*{parts}"):
            call()
    with pytest.raises(
        ValueError, match=r"SOLVER\.OPTIMIZER must be one of AdamW, SGD, MUON, not Lion"
    ):
        build_optimizer(tiny_config((), "SOLVER.OPTIMIZER", "Lion"), model)


def test_factor_without_prefix_is_refused() -> None:
    cfg = tiny_config(("semantic",), "SOLVER.LR_FACTORS", ["backbone", 0.1])
    with pytest.raises(ValueError, match=r"SOLVER\.LR_FACTORS has 'backbone'; it must have pairs"):
        build_optimizer(cfg, tiny_model(("semantic",)))


# Frozen parts


def train_a_step(model: nn.Module) -> dict[str, Tensor]:
    """Train a step; return the state dict before it."""
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(model, name="SGD", lr=0.1, weight_decay=0.1)
    model.train()
    sum(model(random_batch()).values()).backward()
    optimizer.step()
    return before


def test_frozen_parts_are_bit_equal() -> None:
    model = tiny_model()
    names = list(model.state_dict())
    frozen = ("backbone.bottom_up.", "caption_head.text")
    freeze_parts(model, frozen)
    assert list(model.state_dict()) == names

    before = train_a_step(model)

    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert not any(name.startswith(frozen) for name in changed)
    assert {name.partition(".")[0] for name in changed} >= {"backbone", "caption_head"}
    assert any(name.endswith("running_mean") for name in changed)


def test_norms_with_fixed_statistics_are_trained() -> None:
    model = tiny_model(("semantic",))
    keep_statistics(model)
    before = train_a_step(model)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert not any("running" in name or "num_batches" in name for name in changed)
    assert model.semantic_head.tower.norm.weight.grad.any()


def test_copy_of_frozen_norm_is_independent() -> None:
    norm = nn.BatchNorm2d(2)
    keep_statistics(norm)
    twin = copy.deepcopy(norm).train()
    twin(torch.ones(1, 2, 1, 1))
    assert (norm.training, twin.training) == (True, False)
    assert torch.equal(twin.running_mean, torch.zeros(2))


# Clipping


def parameters_with(*gradients: list[float] | None) -> list[nn.Parameter]:
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(len(gradient or [0])))
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        parameters.append(parameter)
    return parameters


def test_clipping_uses_total_norm() -> None:
    parameters = parameters_with([3.0, 0.0], None, [-4.0])
    norm = clip_gradients(iter(parameters), kind="norm", value=1.0)
    assert norm == 5
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(parameters[2].grad, torch.tensor([-0.8]))
    assert clip_gradients(parameters, kind="norm", value=2.0) == pytest.approx(1)
    torch.testing.assert_close(parameters[2].grad, torch.tensor([-0.8]))


@pytest.mark.parametrize(
    ("enabled", "kind", "norm_type", "norm", "left"),
    [
        (True, "value", 2.0, 5, [1.0, -1.0]),
        (True, "norm", float("inf"), 4, [0.75, -1.0]),
        (False, "norm", 2.0, 5, [3.0, -4.0]),
    ],
)
def test_clipping_by_config(
    enabled: bool, kind: str, norm_type: float, norm: float, left: list[float]
) -> None:
    keys = {"ENABLED": enabled, "CLIP_TYPE": kind, "NORM_TYPE": norm_type, "CLIP_VALUE": 1.0}
    keys["FULL_MODEL"] = True
    pairs = ((f"SOLVER.CLIP_GRADIENTS.{key}", value) for key, value in keys.items())
    cfg = default_config(*(item for pair in pairs for item in pair))
    parameters = parameters_with([3.0, -4.0], None)
    assert RunOptions.from_config(cfg).clip(parameters) == norm
    torch.testing.assert_close(parameters[0].grad, torch.tensor(left))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
@pytest.mark.parametrize("kind", ["norm", "value"])
def test_clip_type_has_detectron2s_meaning(kind: str, norm_type: float) -> None:
    """By default, the norm of each parameter's gradient is limited."""
    cfg = get_cfg()
    add_yolor_config(cfg)
    node = cfg.SOLVER.CLIP_GRADIENTS
    node.ENABLED, node.CLIP_TYPE, node.NORM_TYPE = True, kind, norm_type
    values = [3.0, -4.0], [0.1, 0.2], [5.0]
    ours, theirs = parameters_with(*values), parameters_with(*values)
    RunOptions.from_config(cfg).clip(ours)
    optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)(theirs, lr=0.0)
    optimizer.step()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)


@pytest.mark.parametrize("kind", ["norm", "value", None])
def test_clipping_does_not_synchronize(kind: str | None) -> None:
    parameters = parameters_with([3.0, -4.0])
    with Counting() as counting:
        clip_gradients(parameters, kind=kind, value=1.0)
    assert counting.waits == {}


def test_parts_that_are_left_out_are_no_error() -> None:
    """A configuration for all tasks can be used for some of them."""
    model = tiny_model(("detection",))
    freeze_parts(model, ["mask_head"])
    factors = [("caption_head.text", 0.5), ("detection_head", 0.5)]
    groups = parameter_groups(model, **{**SETTINGS, "lr_factors": factors})
    assert {group["lr"] for group in groups} == {0.01, 0.005}
    with pytest.raises(ValueError, match="caption_haed"):
        parameter_groups(model, **{**SETTINGS, "lr_factors": [("caption_haed", 0.5)]})


def test_nothing_to_clip() -> None:
    assert clip_gradients(parameters_with(None), kind="norm", value=1.0) == 0


def test_unknown_clipping_is_refused() -> None:
    keys = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model")
    with pytest.raises(ValueError, match=r"SOLVER\.CLIP_GRADIENTS\.CLIP_TYPE .*, not full_model"):
        RunOptions.from_config(default_config(*keys))


def test_state_is_loaded_by_names_when_groups_change() -> None:
    """Another learning rate of a part makes other groups, with other parameter numbers."""
    model = tiny_model(("detection",))
    settings = {"lr": 1e-3, "weight_decay": 0.1}
    before = make_optimizer(model, **settings)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(number + 1))
    before.step()
    after = make_optimizer(model, **settings, lr_factors=[("detection_head", 0.5)])
    assert names_of(after, model) != names_of(before, model)

    load_by_names(after, model, before.state_dict(), names=names_of(before, model))

    for parameter in model.parameters():
        assert torch.equal(after.state[parameter]["exp_avg"], before.state[parameter]["exp_avg"])
    assert {group["lr"] for group in after.param_groups} == {1e-3, 5e-4}


def test_state_is_loaded_in_the_layout_of_the_parameters() -> None:
    """Fused optimizers go through all tensors in the order of their memory."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 5)
    models = [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make_optimizer(model, lr=0.1, weight_decay=0.0) for model in models]
    models[0](x).square().sum().backward()
    optimizers[0].step()
    models[1].load_state_dict(models[0].state_dict())
    names = names_of(optimizers[0], models[0])
    saved = copy.deepcopy(optimizers[0].state_dict())
    load_by_names(optimizers[1], models[1], saved, names=names)
    for model, optimizer in zip(models, optimizers, strict=True):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(models[1].weight, models[0].weight)
