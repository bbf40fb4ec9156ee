"""Activation checkpointing: the same losses, gradients and statistics with less memory."""

import copy
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from benchmarks.model_memory import peak_bytes
from yolor_d2.engine.optim.optimizer import freeze_parts
from yolor_d2.engine.parallel import checkpoint_activations, prepare_for_training
from yolor_d2.modeling import deploy
from yolor_d2.modeling.meta_arch import YOLOR

from ...modeling.factory import random_batch, tiny_model
from ...modeling.gyolo import GYOLO

ALL = ("detection", "mask", "semantic", "caption")
WEAK_SIZE = (64, 64)  # so that the trunk has two passes


def trained(model: YOLOR) -> dict[str, Tensor]:
    """Losses, gradients and the state of a model after a step's forward and backward pass."""
    model.train()
    torch.manual_seed(0)
    losses = model(random_batch(weak_size=WEAK_SIZE))
    sum(losses.values()).backward()
    gradients = {f"gradient of {n}": p.grad for n, p in model.named_parameters()}
    assert not any(gradient is None for gradient in gradients.values())
    return {**losses, **gradients, **model.state_dict()}


@pytest.mark.parametrize(
    "keys",
    [(), ("MODEL.YOLOR.WEAK_BN", "frozen"), GYOLO],
    ids=["YOLOR-ELAN", "frozen weak view", "gyolo"],
)
def test_results_are_the_same(keys: Sequence[Any]) -> None:
    plain = tiny_model(ALL, *keys)
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    expected, found = trained(plain), trained(checkpointed)
    assert expected.keys() == found.keys()
    assert any("implicit_add" in name for name in found)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_frozen_parts_keep_their_statistics() -> None:
    model = tiny_model(("detection",))
    freeze_parts(model, ["backbone.bottom_up"])
    checkpoint_activations(model)
    before = copy.deepcopy(model.state_dict())
    model.train()
    sum(model(random_batch()).values()).backward()
    for name, value in model.backbone.bottom_up.state_dict().items():
        assert torch.equal(value, before[f"backbone.bottom_up.{name}"]), name
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_gradients_can_be_computed_several_times() -> None:
    """As for the norm of each task's gradient (LOG.TASK_GRADIENTS)."""
    model = tiny_model(("detection",))
    checkpoint_activations(model)
    trunk = list(model.backbone.parameters())
    losses = model.train()(random_batch())
    first = torch.autograd.grad(losses["loss_cls"], trunk, retain_graph=True)
    second = torch.autograd.grad(losses["loss_cls"], trunk, retain_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_memory_is_saved() -> None:
    plain = tiny_model(("detection",)).train()
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    batch = random_batch(size=(192, 192))

    def peak(model: nn.Module) -> int:
        return peak_bytes(lambda: sum(model(batch).values()).backward(), torch.device("cpu"))

    assert peak(checkpointed) < 0.7 * peak(plain)


def test_inference_is_not_checkpointed() -> None:
    model = tiny_model(("detection",))
    checkpoint_activations(model)
    with patch("yolor_d2.modeling.backbone.selective.checkpoint", side_effect=AssertionError):
        for network in (model.eval(), deploy(model)):
            network(random_batch())
            network.backbone(torch.rand(1, 3, 64, 64))  # also where gradients are computed


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ACTIVATION_CHECKPOINTING is for .*; Linear has none"):
        prepare_for_training(nn.Linear(2, 2), activation_checkpointing=True)
