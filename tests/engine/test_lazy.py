"""A LazyConfig trains with the same parts, and resumes as exactly."""

import json
from pathlib import Path
from typing import Any

import pytest

from yolor_d2.engine.arguments import argument_parser
from yolor_d2.engine.main import main
from yolor_d2.engine.run import Run
from yolor_d2.model_zoo import config_folder

from .test_interruption import final_state
from .test_resume import assert_equal

SMALL = [
    *("model.backbone.width=0.125", "model.backbone.depth=0.25"),
    *(f"model.{head}_head.input_shape.width=0.125" for head in ("detection", "mask", "semantic")),
    *("data.batch_size=2", "data.num_workers=0", "data.close_mosaic_iters=1", "run.curves=False"),
    *("run.pictures=0", "run.checkpoint_period=2", "run.eval_period=0", "run.loss_period=3"),
    *("train_mapper.num_sem_seg_classes=19", "model.detection_head.num_classes=10"),
    *("model.semantic_head.num_classes=19", "tokenizer.vocab_size=60"),
    *("run.channels_last=False", "run.precision=''", "schedule.warmup_iters=2"),
    *("train_mapper.weak_size=64", "test_mapper.test_size=64", "train_mapper.strong.size=64"),
]


def run_lazy(
    toy_sets: tuple[str, str], folder: Path, kind: str, *more: str, flags: Any = ()
) -> Any:
    sets = [f"data.train=[{toy_sets[0]}]", f"data.test=[{toy_sets[1]}]"]
    file = str(config_folder() / f"lazy/yolor_elan_{kind}.py")
    if kind != "pan":
        sets.append("model.caption_head.input_shape.width=0.125")
    options = [*SMALL, *sets, f"run.output_dir={folder}", *more]
    return main(argument_parser().parse_args(["--config-file", file, *flags, *options]))


@pytest.mark.parametrize("kind", ["mtl", "pan"])
def test_train(toy_sets: tuple[str, str], tmp_path: Path, kind: str) -> None:
    run_lazy(toy_sets, tmp_path / "run", kind, "run.max_iter=2", "run.eval_period=2")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert ("caption/CIDEr" in metrics) == (kind == "mtl")
    assert "panoptic_seg/PQ" in metrics

    weights = f"init.weights={tmp_path}/run/model_final.pth"
    run_lazy(toy_sets, tmp_path / "evaluation", kind, weights, flags=["--eval-only"])
    again = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert again == metrics


def test_resume(toy_sets: tuple[str, str], tmp_path: Path) -> None:
    """Stopped after 2 of 4 steps, which the second command makes up for."""
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    run_lazy(toy_sets, straight, "pan", "run.max_iter=4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "after_step", stop_after_two_steps(Run.after_step))
        with pytest.raises(KeyboardInterrupt):
            run_lazy(toy_sets, parts, "pan", "run.max_iter=4")
    run_lazy(toy_sets, parts, "pan", "run.max_iter=4", flags=["--resume"])
    assert_equal(final_state(parts), final_state(straight))

    with pytest.raises(SystemExit):
        run_lazy(toy_sets, parts, "pan", "optimizer.lr=1.0", flags=["--resume"])


def stop_after_two_steps(after_step: Any) -> Any:
    def wrapped(run: Run) -> None:
        after_step(run)
        if run.finished == 2:
            raise KeyboardInterrupt

    return wrapped
