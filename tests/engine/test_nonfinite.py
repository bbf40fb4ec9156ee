"""Non-finite values are never applied to weights or saved."""

import json
import math
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase

from yolor_d2.engine.trainer import Trainer
from yolor_d2.errors import NonFiniteError

from ..small_runs import Configure
from .test_resume import Kill, KillAfter, assert_equal


class Poison(HookBase):
    """Makes a loss, a gradient or a statistic of a step non-finite."""

    def __init__(self, kind: str, *, steps: range) -> None:
        self.kind = kind
        self.steps = steps

    def before_step(self) -> None:
        model = self.trainer.model
        if self.trainer.iter not in self.steps:
            return
        if self.kind == "loss":
            losses = model.training_losses
            model.training_losses = lambda batch, *guides: _once(model, losses, batch)
        elif self.kind == "gradient":
            parameter = next(model.detection_head.parameters())
            handle = parameter.register_hook(lambda g: (handle.remove(), g * math.inf)[1])
        else:
            norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
            handle = norm.register_forward_hook(
                lambda m, *_: (handle.remove(), m.running_var.data.fill_(math.inf))[0]
            )


def _once(model, losses, batch):
    del model.training_losses
    return {name: loss * math.nan for name, loss in losses(batch).items()}


def poisoned(configure: Configure, kind: str, *overrides: object, steps: range) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(configure("run", *overrides))
    trainer.register_hooks([Poison(kind, steps=steps)])
    return trainer


@pytest.mark.parametrize("kind", ["loss", "gradient", "statistic"])
def test_stop(configure: Configure, kind: str) -> None:
    trainer = poisoned(configure, kind, "SOLVER.CHECKPOINT_PERIOD", 1, steps=range(2, 3))

    with pytest.raises(NonFiniteError, match=r"step 2 is not finite; see .*nonfinite_0000002"):
        trainer.train()

    assert trainer.finished == 2
    assert all(torch.isfinite(v).all() for v in trainer.model.state_dict().values())
    assert all(torch.isfinite(v).all() for v in trainer.ema.averages.values())
    names = sorted(path.name for path in trainer.folder.path.glob("model_*.pth"))
    assert names == ["model_0000000.pth", "model_0000001.pth"]
    report = json.loads((trainer.folder.path / "nonfinite_0000002_rank0.json").read_text())
    assert [image["image_id"] for image in report["images"]]
    assert all(Path(image["file_name"]).exists() for image in report["images"])
    assert report["gradients"] or kind == "statistic"
    assert bool(report["buffers"]) == (kind == "statistic")
    spoiled = {name for name, value in report["own"].items() if value in ("nan", "inf")}
    losses = {name for name in report["measured"] if name.startswith("loss_")}
    assert spoiled == {"loss": losses, "gradient": set(), "statistic": {"buffers"}}[kind]


@pytest.mark.parametrize("kind", ["loss", "gradient", "statistic"])
def test_skip(configure: Configure, kind: str) -> None:
    """Weights, statistics and their moving average are as before the step."""
    overrides = ("SOLVER.NONFINITE", "skip", "SOLVER.MAX_ITER", 3)
    trainer = poisoned(configure, kind, *overrides, steps=range(2, 3))
    before = {}

    class Remember(HookBase):
        def after_step(self) -> None:
            if trainer.iter == 1:
                before.update({k: v.clone() for k, v in trainer.model.state_dict().items()})
                before["updates"] = trainer.ema.updates

    trainer.register_hooks([Remember()])
    trainer.train()

    assert trainer.ema.updates == before.pop("updates") == 2
    state = {k: v for k, v in trainer.model.state_dict().items() if "num_batches" not in k}
    assert_equal(state, {k: v for k, v in before.items() if "num_batches" not in k})


def test_too_many_skipped_steps_stop_the_run(configure: Configure) -> None:
    overrides = ("SOLVER.NONFINITE", "skip", "SOLVER.MAX_SKIPPED", 2)
    trainer = poisoned(configure, "loss", *overrides, steps=range(1, 6))
    with pytest.raises(NonFiniteError, match="3 such steps in a row"):
        trainer.train()
    assert trainer.iter == 3


def test_resumed_run_continues_count_of_skipped_steps(configure: Configure) -> None:
    """Otherwise a run that is often stopped would never end."""
    overrides = ("SOLVER.NONFINITE", "skip", "SOLVER.MAX_SKIPPED", 2, "SOLVER.CHECKPOINT_PERIOD", 1)
    first = poisoned(configure, "loss", *overrides, steps=range(1, 6))
    first.register_hooks([KillAfter(3)])
    with pytest.raises(Kill):
        first.train()

    second = poisoned(configure, "loss", *overrides, steps=range(1, 6))
    second.resume_or_load(resume=True)
    assert second.start_iter == 3
    with pytest.raises(NonFiniteError, match="3 such steps in a row"):
        second.train()
    assert second.iter == 3

    older = first.checkpoint()
    del older["skipped"]  # missing in earlier checkpoints of format 1
    second.load(older)
    assert second._trainer.skipped == 0
