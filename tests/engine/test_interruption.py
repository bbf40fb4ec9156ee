"""Signals and kills: a run is resumed after its last saved step."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.engine.launch.signals import EXIT_SAVED
from yolor_d2.engine.main import main
from yolor_d2.engine.trainer import Trainer
from yolor_d2.evaluation.evaluator_list import EvaluatorList

from ..processes import wait_for
from ..small_runs import SMALL, Configure
from .test_main import arguments
from .test_resume import assert_equal

ROOT = Path(__file__).parents[2]
NARROW = [
    *("MODEL.DEVICE", "cpu", "MODEL.YOLOR_ELAN.WIDTH", 0.125, "MODEL.YOLOR_ELAN.DEPTH", 0.25),
    *("MODEL.CAPTION_HEAD.DIM", 32, "MODEL.CAPTION_HEAD.FFN_DIM", 64, "TOKENIZER.VOCAB_SIZE", 60),
    *("SOLVER.IMS_PER_BATCH", 2, "MODEL.CAPTION_HEAD.NUM_HEADS", 2),
]
HOST = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # the same wherever it runs
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def start(
    toy_root: Path,
    folder: Path,
    *flags: str,
    steps: int,
    launcher: Sequence[str] = (),
    keys: Sequence[object] = (),
) -> subprocess.Popen[str]:
    """Start train_net.py like a user."""
    environment = {**os.environ, **HOST, "DETECTRON2_DATASETS": str(toy_root)}
    config = ROOT / "configs/toy/yolor_elan_n_toy.yaml"
    command = [sys.executable, *launcher, str(ROOT / "train_net.py"), "--config-file", str(config)]
    keys = [*SMALL, *NARROW, "SOLVER.MAX_ITER", steps, *keys, "OUTPUT_DIR", folder]
    return subprocess.Popen(
        [*command, "--deterministic", *flags, *map(str, keys)],
        cwd=folder.parent,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str], *, seconds: float = 120) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def final_state(folder: Path) -> dict[str, object]:
    found = torch.load(folder / "model_final.pth", weights_only=True)
    return {key: found[key] for key in ("iteration", "model", "ema", "optimizer")}


LAUNCHES = {
    "alone": ((), (), signal.SIGTERM),
    "launch": (("--num-gpus", "2", "--dist-url", "auto"), (), signal.SIGINT),
    "torchrun": ((), TORCHRUN, signal.SIGTERM),
    "alone by SIGUSR2": ((), (), signal.SIGUSR2),
}


@pytest.mark.parametrize(
    "kind",
    [
        "alone",
        "launch",
        pytest.param("torchrun", marks=pytest.mark.slow),
        pytest.param("alone by SIGUSR2", marks=pytest.mark.slow),
    ],
)
def test_signal_saves(toy_root: Path, tmp_path: Path, kind: str) -> None:
    """The finished steps are saved."""
    flags, launcher, signum = LAUNCHES[kind]
    keys = ["DATALOADER.NUM_WORKERS", 1, "LOG.PERIOD", 1]
    folder = tmp_path / "run"
    process = start(toy_root, folder, *flags, steps=5000, launcher=launcher, keys=keys)
    wait_for(folder / "training.jsonl", process=process)
    process.send_signal(signum)
    sent = time.monotonic()
    code, output = finish(process, seconds=30)

    assert time.monotonic() - sent < 25
    assert code == EXIT_SAVED or (kind == "torchrun" and code != 0), output
    assert "stopped by a signal" in output
    path, state = RunFolder(folder).latest()
    steps = state["iteration"]
    assert path.name == f"model_{steps - 1:07d}.pth"
    assert f"after {steps} steps" in output


class SignaledLoader:
    """A loader; the process gets a signal during the second batch."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.given = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            self.given += 1
            if self.given == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


class SignaledEvaluator(DatasetEvaluator):
    """The process gets a signal while this evaluator computes its scores."""

    def evaluate(self) -> dict[str, dict[str, float]]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {"first": {"score": 1.0}}


class NeverReached(DatasetEvaluator):
    def evaluate(self) -> None:
        pytest.fail("the run should have stopped before")


@pytest.mark.parametrize("when", ["images", "scores"])
def test_signal_during_evaluation(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The evaluation is canceled, its step is saved, and the resumed run repeats it."""
    keys = ("MODEL.YOLOR.TASKS", ["detection"], "TEST.BATCH_SIZE", 1)
    keys += ("SOLVER.MAX_ITER", 3, "TEST.EVAL_PERIOD", 2)
    straight, broken = (
        arguments(configure(name, *keys), tmp_path / f"{name}.yaml")
        for name in ("straight", "broken")
    )
    main(straight)
    with monkeypatch.context() as patch:
        if when == "images":
            cfg = configure("broken", *keys)
            loader = SignaledLoader(Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]))
            patch.setattr(Trainer, "build_test_loader", lambda cfg, name: loader)
        else:
            parts = EvaluatorList([SignaledEvaluator(), NeverReached()])
            patch.setattr(Trainer, "build_evaluator", lambda cfg, name: parts)
        with pytest.raises(SystemExit) as stop:
            main(broken)
    assert stop.value.code == EXIT_SAVED
    if when == "images":
        assert loader.given == 2 < len(loader)
    folder = tmp_path / "broken"
    assert "stopped by a signal while evaluating" in (folder / "log.txt").read_text()
    assert RunFolder(folder).latest()[1]["iteration"] == 2
    assert evaluated(folder) == []

    broken.resume = True
    main(broken)
    assert_equal(final_state(folder), final_state(tmp_path / "straight"))
    assert evaluated(folder) == evaluated(tmp_path / "straight")
    assert [row["iteration"] for row in evaluated(folder)] == [1, 2]


def evaluated(folder: Path) -> list[dict[str, Any]]:
    """The metrics of the log, by step."""
    rows = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if key.startswith(("iteration", "bbox/"))}
        for row in rows
        if "bbox/AP" in row
    ]


def test_kills_lose_nothing(toy_root: Path, tmp_path: Path) -> None:
    """After SIGKILL at random times, the final weights equal those of an undisturbed run."""
    kill_and_resume(toy_root, tmp_path, kills=2, steps=8)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fifty_kills_lose_nothing(toy_root: Path, tmp_path: Path) -> None:
    kill_and_resume(toy_root, tmp_path, kills=50, steps=150)


def kill_and_resume(toy_root: Path, tmp_path: Path, *, kills: int, steps: int) -> None:
    keys = ["SOLVER.CHECKPOINT_PERIOD", 1, "TEST.LOSS_PERIOD", 4]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    code, output = finish(start(toy_root, straight, steps=steps, keys=keys), seconds=900)
    assert code == 0, output
    rng = random.Random(0)
    for number in range(kills):
        flags = ["--resume"] if number else []
        process = start(toy_root, broken, *flags, steps=steps, keys=keys)
        before = RunFolder(broken).regular()
        deadline = time.monotonic() + 60
        while RunFolder(broken).regular() == before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
    code, output = finish(start(toy_root, broken, "--resume", steps=steps, keys=keys), seconds=900)
    assert code == 0, output
    assert_equal(final_state(broken), final_state(straight))
