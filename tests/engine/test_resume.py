"""Exact resume: a stopped and resumed run equals an uninterrupted one."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from yolor_d2.checkpoint.saving import load_checkpoint
from yolor_d2.engine.hooks.validation_loss import ValidationLoss
from yolor_d2.engine.setup import seed_everything
from yolor_d2.engine.trainer import Trainer
from yolor_d2.tools.model_info import main as info

from ..modeling.gyolo import GYOLO
from ..small_runs import TRAIN, Configure


class Kill(BaseException):
    """Ends a run without any handling, like SIGKILL."""


class KillAfter(HookBase):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_step(self) -> None:
        if self.trainer.iter + 1 == self.steps:
            raise Kill


class Record(HookBase):
    """Records the total loss of each step."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def after_step(self) -> None:
        self.losses[self.trainer.iter] = self.trainer.storage.latest()["total_loss"][0]


def run(
    cfg: CfgNode,
    *,
    resume: bool = False,
    kill_after: int | None = None,
    make: Callable[[CfgNode], Trainer] = Trainer,
) -> tuple[Trainer, dict[int, float]]:
    """A trainer that has trained, and the total loss of each step."""
    # Resumed processes, and each of several, have different random numbers.
    seed_everything((99 if resume else 1) + comm.get_rank())
    trainer = make(cfg)
    trainer.resume_or_load(resume=resume)
    record = Record()
    trainer.register_hooks([record])
    if kill_after is not None:
        trainer.register_hooks([KillAfter(kill_after)])
        with pytest.raises(Kill):
            trainer.train()
    else:
        trainer.train()
    return trainer, record.losses


def assert_equal(mine: Any, other: Any, path: str = "") -> None:
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, other), path
    elif isinstance(mine, dict):
        assert mine.keys() == other.keys(), path
        for key in mine:
            assert_equal(mine[key], other[key], f"{path}.{key}")
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(other), path
        for number, (a, b) in enumerate(zip(mine, other, strict=True)):
            assert_equal(a, b, f"{path}[{number}]")
    else:
        assert mine == other, path


def check_exact(configure: Configure, *overrides: Any, kill_after: int, workers: int = 0) -> None:
    straight, losses = run(configure("straight", *overrides))
    cfg = configure("parts", "SOLVER.CHECKPOINT_PERIOD", 1, *overrides)
    _, first = run(cfg, kill_after=kill_after)
    cfg.DATALOADER.NUM_WORKERS = workers
    resumed, second = run(cfg, resume=True)
    assert resumed.start_iter == kill_after
    assert first | second == losses
    mine, other = resumed.checkpoint(), straight.checkpoint()
    for part in ("model", "ema", "optimizer", "random", "history"):
        assert_equal(mine[part], other[part], part)


@pytest.mark.parametrize(("kill_after", "workers"), [(1, 2), (3, 0), (5, 2)])
def test_exact(configure: Configure, kill_after: int, workers: int) -> None:
    """14 images, 4 per step, 6 steps: into the second epoch; mosaic ends after 4 steps."""
    check_exact(configure, kill_after=kill_after, workers=workers)


def test_exact_with_rewards(configure: Configure) -> None:
    """Sampled captions depend on the generators in the checkpoint."""
    check_exact(configure, "MODEL.CAPTION_HEAD.SCST.SAMPLES", 3, kill_after=2)


@pytest.mark.parametrize("kill_after", [2, 4])
def test_exact_with_several_batches_a_step(configure: Configure, kill_after: int) -> None:
    """2 images per batch, 2 batches per step: the same epochs."""
    overrides = ("SOLVER.ACCUM_STEPS", 2, "SOLVER.IMS_PER_BATCH", 2)
    check_exact(configure, *overrides, kill_after=kill_after)


@pytest.mark.slow
def test_exact_with_the_parts_of_gyolo(configure: Configure) -> None:
    check_exact(configure, *GYOLO, "MODEL.CAPTION_HEAD.DROPOUT", 0.2, kill_after=2)


def test_exact_with_evaluations(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their metrics are part of the weights' history."""
    overrides = ("MODEL.YOLOR.TASKS", ["detection", "mask"], "TEST.EVAL_PERIOD", 2)
    check_exact(configure, *overrides, kill_after=3)

    final = tmp_path / "parts" / "model_final.pth"
    history = load_checkpoint(final)["history"]
    assert [each["steps"] for each in history] == [2, 4, 6]
    assert info(["--weights", str(final), "--size", "64"]) == 0
    page = capsys.readouterr().out
    assert "after 6 steps" in page
    for each in history:
        assert f"| {each['steps']} " in page
        assert f"{each['segm/AP']:.4g}" in page
    assert TRAIN in page


class ReadLog(HookBase):
    """Reads which steps have validation losses in the log, before a step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.iterations: list[int] = []

    def before_step(self) -> None:
        if self.trainer.iter == self.step:
            log = Path(self.trainer.options.output_dir, "training.jsonl").read_text()
            rows = map(json.loads, log.splitlines())
            self.iterations = [r["iteration"] for r in rows if "validation/total_loss" in r]


def test_evaluations_are_logged_before_the_next_step(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step has a checkpoint, with which an evaluation would not be repeated."""
    periods = ("TEST.LOSS_PERIOD", 2, "LOG.PERIOD", 100, "SOLVER.CHECKPOINT_PERIOD", 1)
    cfg = configure("run", *periods, "MODEL.YOLOR.TASKS", ["detection"])

    measure = ValidationLoss.after_step

    def measure_or_die(hook: ValidationLoss) -> None:
        if hook.trainer.iter == 3:
            raise Kill
        measure(hook)

    def logged(step: int, *, resume: bool) -> list[int]:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        read = ReadLog(step)
        trainer.register_hooks([read])
        with suppress(Kill):
            trainer.train()
        return read.iterations

    with monkeypatch.context() as patch:
        patch.setattr(ValidationLoss, "after_step", measure_or_die)
        assert logged(2, resume=False) == [1]
    assert logged(4, resume=True) == [1, 3]


GELAN = ("MODEL.BACKBONE.NAME", "build_gelan_pan_backbone", "MODEL.GELAN.WIDTH", 0.125)
BOXES = ("MODEL.YOLOR.TASKS", ["detection"])


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(
            (*GELAN, "MODEL.YOLOR.TASKS", ["detection", "mask", "semantic"]),
            id="gelan-c-pan",
            marks=pytest.mark.slow,
        ),
        pytest.param((*GELAN, "MODEL.GELAN.SIZE", "t", *BOXES), id="v9-t", marks=pytest.mark.slow),
        pytest.param(("MODEL.YOLOR.IMPLICIT_PLACEMENT", "tower", *BOXES), id="yolov7-u6"),
    ],
)
def test_exact_with_the_parts_of_published_networks(
    configure: Configure, overrides: tuple[Any, ...]
) -> None:
    check_exact(configure, *overrides, kill_after=2)


def test_exact_with_factors_on_losses(configure: Configure) -> None:
    factors = ("SOLVER.LOSS_FACTORS", [["loss_box", 2.0, 0.5]])
    check_exact(configure, "MODEL.YOLOR.TASKS", ["detection"], *factors, kill_after=3)


def test_exact_with_shares_of_the_gradient(configure: Configure) -> None:
    shares = [["detection", 2], ["semantic", 1.0]]
    check_exact(
        *(configure, "MODEL.YOLOR.TASKS", ["detection", "semantic"]),
        *("SOLVER.GRADIENT_SHARES", shares),
        kill_after=3,
    )


def test_exact_with_muon(configure: Configure) -> None:
    factors = ("SOLVER.LR_FACTORS", [["detection_head", 0.5]], "SOLVER.WARMUP_MOMENTUM", 0.8)
    check_exact(configure, "SOLVER.OPTIMIZER", "MUON", *factors, kill_after=2)


@pytest.mark.parametrize(("before", "after"), [("MUON", "AdamW"), ("SGD", "MUON")])
def test_another_optimizer_starts_without_moving_averages(
    configure: Configure, before: str, after: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(configure("run", "SOLVER.OPTIMIZER", before))
    trainer = Trainer(
        configure("run", "SOLVER.OPTIMIZER", after, "SOLVER.MAX_ITER", 7), allow_changes=True
    )
    trainer.resume_or_load(resume=True)
    assert "another optimizer: its moving averages start from zero" in caplog.text
    trainer.train()
    assert (trainer.start_iter, trainer.finished) == (6, 7)


def test_training_goes_on_after_an_interruption(configure: Configure) -> None:
    """In the same process, as in a notebook."""
    straight, losses = run(configure("straight"))
    trainer, first = run(configure("run"), kill_after=4)
    record = Record()
    trainer.register_hooks([record])
    trainer._hooks = [hook for hook in trainer._hooks if not isinstance(hook, KillAfter)]
    trainer.train()
    assert first | record.losses == losses
    assert sorted(record.losses) == [4, 5]
    assert_equal(trainer.model.state_dict(), straight.model.state_dict())


def test_negative_periods_are_never(configure: Configure) -> None:
    run(configure("run", "TEST.LOSS_PERIOD", -1))
    assert not list(Path(configure("run").OUTPUT_DIR).glob("model_000000[0-4].pth"))
