"""A limit of the training time: the last step is saved and evaluated; a resumed run counts on."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from yolor_d2.engine.hooks import time_limit
from yolor_d2.engine.trainer import Trainer

from ...small_runs import Configure
from ..test_resume import assert_equal, run

MINUTE = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[CfgNode], Trainer]:
    """Makes trainers whose steps take a minute, and whose evaluations count the steps."""
    clock = Clock()
    monkeypatch.setattr(time_limit, "monotonic", clock)

    class Minute(HookBase):
        def before_step(self) -> None:
            clock.now += MINUTE

    class Timed(Trainer):
        def build_hooks(self) -> list[HookBase]:
            return [Minute(), *super().build_hooks()]

        def evaluate(self) -> dict[str, Any]:
            return {"bbox": {"AP": float(self.finished)}}

    return Timed


def test_the_last_step_within_the_time_is_saved_and_evaluated(
    configure: Configure, make: Callable[[CfgNode], Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="yolor_d2")
    cfg = configure("run", "SOLVER.MAX_MINUTES", 2.5, "TEST.EVAL_PERIOD", 0)
    trainer, losses = run(cfg, make=make)
    assert list(losses) == [0, 1, 2]
    assert trainer.storage.latest()["bbox/AP"] == (3.0, 2)
    assert trainer.storage.latest()["seconds_left"] == (0.0, 2)
    final = torch.load(trainer.folder.path / "model_final.pth", weights_only=True)
    assert final["iteration"] == 3
    assert "2.5 minutes are over after 3 steps" in caplog.messages
    assert re.search(r"step 2 of at most 6, 0:00:\d\d left \| loss", caplog.text)


def test_a_resumed_run_counts_its_time_and_can_have_another_limit(
    configure: Configure, make: Callable[[CfgNode], Trainer]
) -> None:
    run(configure("run", "SOLVER.MAX_MINUTES", 3.0), make=make)
    ended, losses = run(configure("run", "SOLVER.MAX_MINUTES", 3.0), resume=True, make=make)
    assert losses == {}
    assert ended.finished == 3
    _, losses = run(configure("run", "SOLVER.MAX_MINUTES", 4.0), resume=True, make=make)
    assert list(losses) == [3]
    whole, losses = run(configure("run"), resume=True, make=make)
    assert list(losses) == [4, 5]
    straight, _ = run(configure("straight"))
    assert_equal(whole.model.state_dict(), straight.model.state_dict())
    assert_equal(whole.optimizer.state_dict(), straight.optimizer.state_dict())
