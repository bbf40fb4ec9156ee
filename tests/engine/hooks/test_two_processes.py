"""Measurements in two processes equal those of one process with all images."""

from pathlib import Path

import pytest
import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from tests.modeling.factory import random_batch, tiny_model
from yolor_d2.engine.hooks.validation_loss import mean_losses
from yolor_d2.engine.task_gradients import task_gradient_norms

NO_DROPOUT = ("MODEL.CAPTION_HEAD.DROPOUT", 0.0)
IMAGES = [random_batch(images=1, seed=seed) for seed in range(3)]


def in_one_of_two(folder: Path) -> None:
    torch.set_num_threads(1)
    # The first process has two images, the other one.
    losses = mean_losses(tiny_model(), [IMAGES[:2] if comm.get_rank() == 0 else IMAGES[2:]])
    torch.save((losses, gradient_norms()), folder / f"{comm.get_rank()}.pt")


def gradient_norms() -> list[tuple[float, float]]:
    """Measured norms of two steps, and norms of the averaged gradients."""
    model = tiny_model(("caption",), *NO_DROPOUT)
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    trunk = list(model.backbone.parameters())
    norms = []
    for _ in range(2):  # the second step fails if the first one is incomplete
        losses = wrapped(random_batch(seed=comm.get_rank()))
        measured = task_gradient_norms(losses, trunk)["caption"].item()
        model.zero_grad()
        sum(losses.values()).backward()
        squares = [p.grad.square().sum() for p in trunk if p.grad is not None]
        norms.append((measured, torch.stack(squares).sum().sqrt().item()))
    return norms


def test_losses_of_two_processes_equal_those_of_one(tmp_path: Path) -> None:
    launch(in_one_of_two, 2, dist_url="auto", args=(tmp_path,))

    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))

    assert first == second
    assert first[0] == pytest.approx(mean_losses(tiny_model(), [IMAGES]), rel=1e-9)
    for measured, exchanged in first[1]:
        assert measured == pytest.approx(exchanged, rel=1e-4)
