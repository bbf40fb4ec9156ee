"""Shares of the gradient at the shared maps, compared with gradients of one task at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.modeling.factory import random_batch, tiny_model
from yolor_d2.engine.task_balance import TaskBalance
from yolor_d2.engine.task_gradients import TASK_LOSSES, task_gradient_norms
from yolor_d2.engine.trainer import Trainer
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.tasks import TASKS

from ..small_runs import small_config

KEY = "SOLVER.GRADIENT_SHARES"
SHARES = {"detection": 4.0, "mask": 3.0, "semantic": 2.0, "caption": 1.0}
NO_DROPOUT = ("MODEL.CAPTION_HEAD.DROPOUT", 0.0)
CPU = torch.device("cpu")


def model_and_balance(shares: dict[str, float]) -> tuple[YOLOR, TaskBalance]:
    model = tiny_model(tuple(shares), *NO_DROPOUT)
    return model, TaskBalance(model, list(shares.items()), key=KEY)


def gradients(model: YOLOR) -> dict[str, Tensor]:
    named = model.named_parameters()
    return {name: each.grad.clone() for name, each in named if each.grad is not None}


def backward(model: YOLOR, balance: TaskBalance) -> dict[str, float]:
    """The norms of the tasks' gradients of one batch, without the factors."""
    model.zero_grad()
    losses = model(random_batch())
    with balance.measuring():
        sum(losses.values()).backward()
    norms = balance.take_norms(CPU, scale=1.0)
    return {task: norm.item() for task, norm in norms.items()}


def norms_at_the_maps(model: YOLOR) -> dict[str, float]:
    """The same by a backward pass for each task, to the output of the trunk."""
    maps: list[Tensor] = []
    hook = model.backbone.register_forward_hook(lambda *args: maps.extend(args[2].values()))
    losses = model(random_batch())
    hook.remove()
    norms = {}
    for task in TASKS:
        parts = [each for name, each in losses.items() if name.startswith(TASK_LOSSES[task])]
        gradients = torch.autograd.grad(
            torch.stack(parts).sum(), maps, retain_graph=True, allow_unused=True
        )
        squares = [each.square().sum() for each in gradients if each is not None]
        norms[task] = torch.stack(squares).sum().sqrt().item()
    return norms


def test_norms_are_those_of_each_task_alone() -> None:
    model, balance = model_and_balance(SHARES)
    assert backward(model, balance) == pytest.approx(norms_at_the_maps(model), rel=1e-4)


def test_gradients_get_their_shares() -> None:
    model, balance = model_and_balance(SHARES)
    balance.update(backward(model, balance))

    scaled = norms_at_the_maps(model)

    before = sum(balance.norms.values())
    assert sum(scaled.values()) == pytest.approx(before, rel=1e-4)
    assert scaled == pytest.approx(
        {task: before * share / 10 for task, share in SHARES.items()}, rel=1e-4
    )


def test_the_trunk_gets_the_sum_and_the_heads_their_own_gradients() -> None:
    model, balance = model_and_balance(SHARES)
    balance.update(backward(model, balance))
    before = gradients(model)
    norms = backward(model, balance)
    assert norms == pytest.approx(balance.norms, rel=1e-4)  # measured before the factors
    for name, gradient in gradients(model).items():
        is_same = torch.allclose(gradient, before[name], rtol=1e-3, atol=1e-6)
        assert is_same != name.startswith("backbone"), name


def test_a_task_without_a_gradient_keeps_its_average() -> None:
    _, balance = model_and_balance({"detection": 1.0, "semantic": 1.0})
    balance.update({"detection": 2.0, "semantic": 0.0})
    assert balance.factors() == {"detection": 1.0, "semantic": 1.0}
    balance.update({"detection": 2.0, "semantic": 6.0})
    assert balance.factors() == pytest.approx({"detection": 2.0, "semantic": 2 / 3})
    balance.update({"detection": float("inf"), "semantic": 0.0})
    assert balance.norms == pytest.approx({"detection": 2.0, "semantic": 6.0})


def test_measurements_of_task_gradients_are_not_counted() -> None:
    model, balance = model_and_balance(SHARES)
    expected = backward(model, balance)
    task_gradient_norms(model(random_batch()), model.backbone.parameters())
    assert balance.take_norms(CPU, scale=1.0) == dict.fromkeys(SHARES, torch.tensor(0.0))
    assert backward(model, balance) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([["detection", 1.0]], "it must have one of each task of the network: detection, semantic"),
        ([["detection", 1.0], ["semantic", 0.0]], r"has \['semantic', 0.0\]; it must have pairs"),
        (["detection"], "has 'detection'; it must have pairs"),
        ([["detection", 1.0], ["semantic", 1.0], ["caption", 1.0]], "has shares of .*, caption"),
        ([["detection", 1.0], ["semantic", 1.0], ["semantic", 2.0]], "must have one of each"),
    ],
)
def test_wrong_shares(shares: list[Any], message: str) -> None:
    model = tiny_model(("detection", "semantic"))
    with pytest.raises(ValueError, match=rf"SOLVER\.GRADIENT_SHARES {message}|{message}"):
        TaskBalance(model, shares, key=KEY)


def test_norms_are_logged(toy_sets: tuple[str, str], tmp_path: Path) -> None:
    cfg = small_config(
        *(toy_sets, tmp_path, "MODEL.YOLOR.TASKS", ["detection", "semantic"]),
        *(KEY, [["detection", 1.0], ["semantic", 1.0]], "SOLVER.MAX_ITER", 2),
    )
    trainer = Trainer(cfg)
    trainer.train()
    logged = trainer.storage.latest()
    assert logged["grad_norm/detection"][0] > 0
    assert logged["grad_norm/semantic"][0] > 0
    assert trainer.own_checkpoint()["gradient_norms"].keys() == {"detection", "semantic"}
