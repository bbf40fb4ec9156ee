"""A step of the optimizer: accumulated batches, clipping, precision, logged metrics."""

import copy
from itertools import islice
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase
from torch import Tensor, nn

from yolor_d2.engine.optim.optimizer import keep_statistics
from yolor_d2.engine.trainer import Trainer

from ..small_runs import Configure

STILL = [
    *("MODEL.CAPTION_HEAD.DROPOUT", 0.0, "SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", False),
]


class Gradients(HookBase):
    """Copies the gradients of each step just before the optimizer uses them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def before_train(self) -> None:
        self.trainer.optimizer.register_step_pre_hook(self._copy)

    def _copy(self, *_: Any) -> None:
        named = self.trainer.model.named_parameters()
        self.steps.append({n: p.grad.clone() for n, p in named if p.grad is not None})


def build(configure: Configure, *overrides: Any) -> tuple[Trainer, Gradients]:
    torch.manual_seed(0)
    trainer = Trainer(configure("run", *STILL, *overrides))
    keep_statistics(trainer.model)
    gradients = Gradients()
    trainer.register_hooks([gradients])
    return trainer, gradients


def gradient_of(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    sum(model(batch).values()).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_accumulation_is_the_mean_of_the_batches(configure: Configure) -> None:
    overrides = ("SOLVER.ACCUM_STEPS", 3, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2)
    trainer, gradients = build(configure, *overrides)
    trainer.model.train()
    batches = list(islice(trainer.parts.data.train_loader(0), 3))
    expected = [gradient_of(trainer.model, batch) for batch in batches]

    trainer.train()

    assert len(gradients.steps) == trainer.finished == 2  # steps of the optimizer
    for name, gradient in gradients.steps[0].items():
        mean = torch.stack([one[name] for one in expected]).mean(0)
        torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-4)


def test_second_step_continues_the_data(configure: Configure) -> None:
    """Positions in the data are counted in batches, not steps."""
    overrides = ("SOLVER.ACCUM_STEPS", 3, "SOLVER.IMS_PER_BATCH", 2)
    trainer, _ = build(configure, *overrides)
    straight = [i["image_id"] for b in islice(trainer.parts.data.train_loader(0), 6) for i in b]
    later = [i["image_id"] for b in islice(trainer.parts.data.train_loader(1), 3) for i in b]
    assert later == straight[6:]


@pytest.mark.parametrize("norm_type", [2.0, float("inf")])
def test_clipping(configure: Configure, norm_type: float) -> None:
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.125)
    norm = ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", norm_type)
    trainer, gradients = build(configure, *clip, *norm, "SOLVER.MAX_ITER", 1)
    trainer.train()
    total = torch.cat([g.flatten() for g in gradients.steps[0].values()]).norm(norm_type).item()
    assert total == pytest.approx(0.125, rel=1e-4)
    assert trainer.storage.latest()["grad_norm"][0] > 0.25  # before clipping


@pytest.mark.parametrize("scale", [1.0, 4096.0])
def test_caption_gradients_reach_the_trunk(configure: Configure, scale: float) -> None:
    """One step on the sum of all losses, also with loss scaling (as for fp16)."""
    trainer, gradients = build(configure, "SOLVER.MAX_ITER", 1)
    trainer._trainer.scaler = torch.amp.GradScaler("cpu", enabled=scale > 1, init_scale=scale)
    model = trainer.model.train()
    batch = next(iter(trainer.parts.data.train_loader(0)))
    alone = copy.deepcopy(model)
    alone(batch)["loss_caption"].backward()
    others = copy.deepcopy(model)
    losses = others(batch)
    sum(loss for name, loss in losses.items() if name != "loss_caption").backward()

    trainer.train()

    captions, rest = (
        {f"backbone.{n}": p.grad for n, p in part.backbone.named_parameters() if p.grad is not None}
        for part in (alone, others)
    )
    assert sum(gradient.norm() for gradient in captions.values()) > 0.01
    for name, gradient in captions.items():
        together = gradient + rest.get(name, 0)
        torch.testing.assert_close(gradients.steps[0][name], together, atol=2e-4, rtol=1e-3)


def test_logged_metrics(configure: Configure) -> None:
    overrides = ("LOG.TASK_GRADIENTS", 2, "SOLVER.MAX_ITER", 2)
    trainer, _ = build(configure, *overrides)
    trainer.train()
    latest = trainer.storage.latest()
    losses = {"cls", "box", "dfl", "mask", "sem_focal", "sem_dice", "caption"}
    expected = {f"loss_{name}" for name in losses} | {"total_loss", "grad_norm", "lr"}
    expected |= {f"time/{part}" for part in ("data", "forward", "backward", "step")}
    expected |= {f"gradient/{task}" for task in ("detection", "mask", "semantic", "caption")}
    assert expected | {"images_per_second"} <= latest.keys()
    total = sum(latest[f"loss_{name}"][0] for name in losses)
    assert latest["total_loss"][0] == pytest.approx(total)
    assert latest["gradient/caption"][0] > 0


@pytest.mark.parametrize("samples", [0, 3])
def test_half_precision_trains(configure: Configure, samples: int) -> None:
    """Also with captions sampled in half precision, and rewards."""
    overrides = ("SOLVER.MAX_ITER", 2, "MODEL.CAPTION_HEAD.SCST.SAMPLES", samples)
    trainer, gradients = build(configure, *overrides, "SOLVER.AMP.ENABLED", True)
    assert trainer._trainer.dtype is torch.bfloat16
    trainer.train()
    assert len(gradients.steps) == 2
    assert all(torch.isfinite(g).all() for g in gradients.steps[1].values())
    # Samples with equal rewards give no gradient, which is possible in one of the steps.
    steps = gradients.steps
    captions = [g for step in steps for name, g in step.items() if "caption_head" in name]
    assert any(g.any() for g in captions)


def test_wrong_options_are_refused(configure: Configure) -> None:
    for overrides, complaint in (
        (("SOLVER.NONFINITE", "hope"), "SOLVER.NONFINITE must be one of stop, skip, not hope"),
        (("SOLVER.ACCUM_STEPS", 0), "SOLVER.ACCUM_STEPS is 0; it must be at least 1"),
        (("SOLVER.AMP.DTYPE", "half"), "SOLVER.AMP.DTYPE must be one of bf16, fp16, not half"),
    ):
        with pytest.raises(ValueError, match=complaint):
            build(configure, *overrides)
