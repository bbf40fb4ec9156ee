"""Task gradients, compared with plain backward passes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.modeling.factory import random_batch, tiny_model
from yolor_d2.engine.task_gradients import task_gradient_norms
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.tasks import TASKS

LOSSES = {
    "detection": ["loss_cls", "loss_box", "loss_dfl"],
    "mask": ["loss_mask"],
    "semantic": ["loss_sem_focal", "loss_sem_dice"],
    "caption": ["loss_caption"],
}
NO_DROPOUT = ("MODEL.CAPTION_HEAD.DROPOUT", 0.0)


def trunk(model: YOLOR) -> list[nn.Parameter]:
    return list(model.backbone.parameters())


def flat_gradient(model: YOLOR) -> torch.Tensor:
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trunk(model)]
    return torch.cat([grad.flatten() for grad in grads])


def alone(task: str, *, seed: int = 0) -> torch.Tensor:
    """The gradient of one task by a backward pass of its losses alone, (P,)."""
    model = tiny_model(TASKS, *NO_DROPOUT)
    losses = model(random_batch(seed=seed))
    sum(losses[name] for name in LOSSES[task]).backward()
    return flat_gradient(model)


@pytest.fixture(scope="module")
def measured() -> dict[str, torch.Tensor]:
    model = tiny_model(TASKS, *NO_DROPOUT)
    return task_gradient_norms(model(random_batch()), trunk(model))


@pytest.mark.parametrize("task", TASKS)
def test_norm_equals_that_of_the_task_alone(measured: dict[str, torch.Tensor], task: str) -> None:
    assert measured[task].item() == pytest.approx(alone(task).norm().item(), rel=1e-4)


def test_caption_gradient_reaches_the_trunk(measured: dict[str, torch.Tensor]) -> None:
    """In all layers that the caption's maps depend on, down to the first convolution."""
    assert measured["caption"] > 1e-3
    model = tiny_model(("caption",))
    sum(model(random_batch()).values()).backward()
    assert model.backbone.bottom_up.stem[0].conv.weight.grad.norm() > 1e-5


def test_cosines_of_gradients(measured: dict[str, torch.Tensor]) -> None:
    first, second = alone("mask"), alone("caption")
    expected = F.cosine_similarity(first, second, dim=0).item()
    assert measured["cosine_mask_caption"].item() == pytest.approx(expected, abs=1e-4)
    assert len(measured) == 4 + 6


def test_training_step_is_not_affected() -> None:
    gradients = []
    for measures in (True, False):
        model = tiny_model(TASKS, *NO_DROPOUT)
        losses = model(random_batch())
        if measures:
            task_gradient_norms(losses, trunk(model))
            assert all(p.grad is None for p in model.parameters())
        sum(losses.values()).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_small_gradients_survive_half_precision() -> None:
    """A task with a loss weight so small that its gradients underflow in float16."""
    weight = 1e-6
    norms = []
    for scale in (1.0, 2.0**14):
        model = tiny_model(("caption",), *NO_DROPOUT)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = model(random_batch())["loss_caption"] * weight
        norms.append(task_gradient_norms({"loss_caption": loss}, trunk(model), scale=scale))
    model = tiny_model(("caption",), *NO_DROPOUT)
    full = task_gradient_norms(model(random_batch()), trunk(model))["caption"] * weight

    assert norms[1]["caption"].item() == pytest.approx(full.item(), rel=0.1)
    assert norms[0]["caption"] < 0.9 * norms[1]["caption"]


def test_frozen_trunk_has_no_gradient_norms() -> None:
    model = tiny_model(("caption",))
    assert task_gradient_norms(model(random_batch()), []) == {}


def test_tasks_without_loss_are_omitted() -> None:
    x = torch.ones(2, requires_grad=True)
    norms = task_gradient_norms({"loss_sem_seg": (3 * x).sum(), "loss_other": x.sum()}, [x])
    assert {name: norm.item() for name, norm in norms.items()} == {
        "semantic": pytest.approx(3 * 2**0.5)
    }
