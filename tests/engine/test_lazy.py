"""LazyConfigs: training, exact resume, overrides."""

import json
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.evaluation.testing import flatten_results_dict

from yolor_d2.checkpoint.saving import load_checkpoint
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.lazy import lazy_changes, read_lazy
from yolor_d2.engine.main import main, prepare
from yolor_d2.engine.run import Run
from yolor_d2.model_zoo import config_folder

from .test_interruption import final_state
from .test_main import complaint
from .test_resume import assert_equal

CONFIG = "lazy/yolor_elan_pan.py"
SMALL = [
    *("model.backbone.width=0.125", "model.backbone.depth=0.25"),
    *(f"model.{head}_head.input_shape.width=0.125" for head in ("detection", "mask", "semantic")),
    *("data.batch_size=2", "data.num_workers=0", "data.close_mosaic_iters=1", "run.curves=False"),
    *("run.pictures=0", "run.checkpoint_period=2", "run.eval_period=-1", "run.loss_period=3"),
    *("train_mapper.num_sem_seg_classes=19", "model.detection_head.num_classes=10"),
    *("model.semantic_head.num_classes=19", "tokenizer.vocab_size=60"),
    *("run.channels_last=False", "run.cpu=keys", "run.precision=''"),
    *("schedule.warmup_iters=2", "evaluators.meteor=False"),
    *("train_mapper.weak_size=64", "test_mapper.test_size=64", "train_mapper.strong.size=64"),
]


def arguments(
    toy_sets: tuple[str, str], folder: Path, kind: str, *more: str, flags: Any = ()
) -> Namespace:
    sets = [f"data.train=[{toy_sets[0]}]", f"data.test=[{toy_sets[1]}]"]
    file = str(config_folder() / f"lazy/{kind if '_' in kind else f'yolor_elan_{kind}'}.py")
    if kind != "pan":
        sets.append("model.caption_head.input_shape.width=0.125")
    options = [*SMALL, *sets, f"run.output_dir={folder}", *more]
    return argument_parser().parse_args(["--config-file", file, *flags, *options])


def run_lazy(*what: Any, flags: Any = ()) -> Any:
    return main(arguments(*what, flags=flags))


@pytest.mark.parametrize("kind", ["mtl", "pan"])
def test_train(toy_sets: tuple[str, str], tmp_path: Path, kind: str) -> None:
    options = ("run.max_iter=2", "run.eval_period=2", "run.pictures=1")
    results = run_lazy(toy_sets, tmp_path / "run", kind, *options)
    assert (tmp_path / "run/samples/sample_00.jpg").exists()
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert ("caption/CIDEr" in metrics) == (kind == "mtl")
    assert metrics["panoptic_seg/PQ"] == flatten_results_dict(results)["panoptic_seg/PQ"]

    weights = f"init.weights={tmp_path}/run/model_final.pth"
    run_lazy(toy_sets, tmp_path / "evaluation", kind, weights, flags=["--eval-only"])
    again = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert again == metrics
    (tmp_path / "run/metrics.json").unlink()
    run_lazy(toy_sets, tmp_path / "run", kind, flags=["--eval-only", "--resume"])
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == metrics


def test_another_backbone(toy_sets: tuple[str, str], tmp_path: Path) -> None:
    options = ("run.max_iter=2", "run.checkpoint_period=9", "run.ema_decay=0.0")

    run_lazy(toy_sets, tmp_path, "resnet50_mtl", "init.weights=", *options)

    state = load_checkpoint(tmp_path / "model_final.pth")["model"]
    assert "backbone.bottom_up.res5.2.conv3.weight" in state


def test_resume(toy_sets: tuple[str, str], tmp_path: Path) -> None:
    """Stopped after 2 of 4 steps; the second command finishes the run."""
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


def test_new_run_from_weights(
    toy_sets: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loaded file is logged; on a CPU, run.cpu=keys obeys the precision."""
    monkeypatch.setattr("yolor_d2.engine.lazy.best_device", lambda: "cpu")
    run_lazy(toy_sets, tmp_path / "first", "pan", "run.max_iter=1")
    weights = tmp_path / "first/model_final.pth"
    more = ("run.precision=bf16", "run.max_iter=1", f"init.weights={weights}")
    args = arguments(toy_sets, tmp_path / "run", "pan", *more, flags=["--resume"])
    work = prepare(args)
    (run,) = work.args
    assert run.options.precision == "bf16"
    assert_equal(run.model.state_dict(), torch.load(weights)["ema"]["model"])
    log = (tmp_path / "run/log.txt").read_text()
    assert "has no checkpoint to resume" in log
    assert "model_final.pth: " in log


@pytest.mark.parametrize(
    "name", ["data.batchsize", "run.max_itr", "nothing", "nothing.at_all", "init.seed.more"]
)
def test_unknown_override_is_refused(
    toy_sets: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    message = complaint(caplog, arguments(toy_sets, tmp_path, "pan", f"{name}=3"))
    assert message.startswith(f"{name} is not a name of this configuration; ")


@pytest.mark.parametrize(
    "override",
    ["model.mask_head=\u202e", "data=5", "data.test=-inf", "model={", "run=[]", "data.test={a: 1}"],
)
def test_overrides_that_do_not_fit_are_refused(override: str) -> None:
    args = Namespace(config_file=CONFIG, opts=[override], eval_only=True, check_cluster=False)
    with pytest.raises(ValueError, match=re.escape(override.partition("=")[0])) as error:
        read_lazy(args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("override", "part"), [("tta=x", "tta"), ("run.x=5", "run.x")])
def test_sections_must_have_names(override: str, part: str) -> None:
    args = Namespace(config_file=CONFIG, opts=[override], eval_only=True, check_cluster=False)
    with pytest.raises(ValueError, match=part):
        read_lazy(args)


def changes(*overrides: str) -> list[str]:
    before, now = (
        LazyConfig.load(str(config_folder() / "lazy/yolor_elan_mtl.py")) for _ in range(2)
    )
    LazyConfig.apply_overrides(now, list(overrides))
    return lazy_changes(LazyConfig.to_py(before), LazyConfig.to_py(now))


def test_changes_of_training_are_reported() -> None:
    """A changed number of steps changes the schedule."""
    run = ("run.accum_steps=4", "run.ema_decay=0.5", "run.ema_tau=5.0", "run.freeze=[backbone]")
    clip = ("run.clip_type=value", "run.clip_value=1.0", "run.precision=fp16", "run.max_iter=9")
    model = ("model.backbone.depth=0.5", "model.caption_head.sizes.dim=8")
    assert changes("init.seed=1", "data.batch_size=8", *run, *clip, *model) == [
        "data.batch_size 64 -> 8",
        "init.seed 0 -> 1",
        "model.backbone.depth 1.0 -> 0.5",
        "model.caption_head.sizes.dim 512 -> 8",
        "run.accum_steps absent -> 4",
        "run.clip_type 'norm' -> 'value'",
        "run.clip_value 10.0 -> 1.0",
        "run.ema_decay 0.9999 -> 0.5",
        "run.ema_tau absent -> 5.0",
        "run.freeze absent -> ['backbone']",
        "run.max_iter 554400 -> 9",
        "run.precision 'bf16' -> 'fp16'",
        "schedule.total 554400 -> 9",
    ]


def test_changes_without_effect_on_training_are_allowed() -> None:
    data = ("data.test=[]", "data.test_batch_size=1", "data.num_workers=1", "init.weights=w")
    run = ("run.output_dir=o", "run.eval_period=1", "run.log_period=1", "run.best_metric=bbox/AP")
    assert changes(*data, *run, "test_mapper.test_size=64", "evaluators.meteor=True") == []
