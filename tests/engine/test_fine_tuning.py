"""Runs that start from weights, or have frozen parts."""

import math
from pathlib import Path

import torch

from yolor_d2.checkpoint.saving import load_checkpoint, save_checkpoint
from yolor_d2.checkpoint.weights import read_weights
from yolor_d2.engine.trainer import Trainer, build_for_inference

from ..small_runs import Configure
from .optim.test_ema import assert_same, copied
from .test_resume import run
from .test_step import Gradients

TABLES = ("panoptic.thing_to_panoptic", "panoptic.leaf_to_panoptic")
FROZEN = ("backbone.bottom_up", "caption_head.text")


def test_moving_average_starts_from_loaded_weights(configure: Configure) -> None:
    """Random initial weights would stay in the average for thousands of steps."""
    trainer, _ = run(configure("first", "SOLVER.MAX_ITER", 2))
    final = trainer.folder.path / "model_final.pth"

    tuned = Trainer(configure("second", "MODEL.WEIGHTS", str(final), "SOLVER.MAX_ITER", 1))
    random = copied(tuned.ema.averages)
    tuned.resume_or_load(resume=False)

    stored = read_weights(final, prefer="ema").tensors
    assert_same(tuned.model.state_dict(), stored)
    assert_same(tuned.ema.averages, stored)
    assert tuned.ema.updates == 0
    assert any(not torch.equal(random[name], value) for name, value in stored.items())

    tuned.train()
    saved = torch.load(Path(tuned.cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    new = 1 - tuned.ema.decay * (1 - math.exp(-1 / tuned.ema.tau))  # its share after a step
    for name, mean in saved["ema"]["model"].items():
        if mean.is_floating_point():
            expected = stored[name].lerp(saved["model"][name], new)
            torch.testing.assert_close(mean, expected, msg=name)


def test_panoptic_tables_are_those_of_the_data(configure: Configure) -> None:
    """Weights that were trained on other classes have other tables."""
    trainer, _ = run(configure("first", "SOLVER.MAX_ITER", 1))
    content = load_checkpoint(trainer.folder.path / "model_final.pth")
    other = trainer.folder.path / "other.pth"
    for state in (content["model"], content["ema"]["model"]):
        for name in TABLES:
            state[name] = torch.full((3,), -1) if name == TABLES[0] else state[name] * 0
    save_checkpoint(content, other)

    tuned = Trainer(configure("second", "MODEL.WEIGHTS", str(other), "SOLVER.MAX_ITER", 1))
    tables = {name: copied(tuned.model.state_dict())[name] for name in TABLES}
    tuned.resume_or_load(resume=False)
    evaluated = build_for_inference(configure("third", "MODEL.WEIGHTS", str(other)))

    assert any(table.any() for table in tables.values())
    for model in (tuned.model, evaluated):
        for name, table in tables.items():
            assert torch.equal(model.state_dict()[name], table), name


def test_frozen_parts_stay_and_others_change(configure: Configure) -> None:
    """Bit by bit, including statistics and the moving average."""
    trainer = Trainer(configure("run", "SOLVER.FREEZE", list(FROZEN), "SOLVER.MAX_ITER", 3))
    gradients = Gradients()
    trainer.register_hooks([gradients])
    before = copied(trainer.model.state_dict())
    trainer.train()

    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    # Of such small images, the coarser levels get almost no gradients from boxes.
    trained = {n for step in gradients.steps for n, g in step.items() if g.abs().max() > 1e-6}
    expected = trained | {name for name in statistics if not name.startswith(FROZEN)}
    parts = {"backbone", "detection_head", "mask_head", "semantic_head", "caption_head"}
    assert {name.partition(".")[0] for name in trained} == parts
    assert any(name.startswith(FROZEN) for name in statistics)
    saved = torch.load(Path(trainer.cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    for state in (trainer.model.state_dict(), saved["model"], saved["ema"]["model"]):
        moved = {name for name, value in state.items() if not torch.equal(value, before[name])}
        assert not [name for name in moved if name.startswith(FROZEN)]
        assert not expected - moved, sorted(expected - moved)
