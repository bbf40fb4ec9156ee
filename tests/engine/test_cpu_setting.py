"""Precision, layout and threads of training steps on a CPU."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from yolor_d2.checkpoint.saving import load_checkpoint
from yolor_d2.engine import cpu_setting, timed_steps
from yolor_d2.engine.cpu_setting import CPUSetting, multiplies_bf16
from yolor_d2.engine.rng_state import random_state
from yolor_d2.engine.trainer import Trainer

from ..small_runs import Configure
from .test_resume import assert_equal, run

ON = ("SOLVER.AMP.ENABLED", True, "SOLVER.MAX_ITER", 4)


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor with bf16, and threads as they were."""
    threads = torch.get_num_threads()
    monkeypatch.setattr("yolor_d2.engine.options.multiplies_bf16", lambda: True)
    yield
    torch.set_num_threads(threads)


def setting(trainer: Trainer) -> CPUSetting:
    found = trainer._trainer.cpu_setting
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx512f", False),
        ("", False),
    ],
)
def test_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(cpu_setting, "CPUINFO", file)
    assert multiplies_bf16() == expected
    file.unlink()
    assert not multiplies_bf16()


def test_waiting_threads_give_up_their_core() -> None:
    """Set when the package is imported, unless the user has set one of them."""
    assert os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}


def test_resumed_run_is_exact(configure: Configure) -> None:
    options = (*ON, "SOLVER.CPU", "processor", "SOLVER.CHECKPOINT_PERIOD", 2)
    whole, losses = run(configure("whole", *options))
    assert setting(whole)[:2] == ("bf16", True)
    run(configure("killed", *options), kill_after=3)
    resumed, later = run(configure("killed", *options), resume=True)
    assert later == {step: losses[step] for step in (2, 3)}
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())
    assert_equal(resumed.optimizer.state_dict(), whole.optimizer.state_dict())


def test_resumed_run_keeps_what_was_chosen(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a processor that would choose something else, and if the time would."""
    options = (*ON, "SOLVER.CPU", "timed", "SOLVER.CHECKPOINT_PERIOD", 2)
    chosen = CPUSetting("", False, 1)  # more threads gain nothing
    times = {("bf16", True): 2.0, ("", True): 1.5, ("", False): 1.0}
    monkeypatch.setattr(timed_steps._Trial, "__call__", lambda _, each: times[each[:2]])
    first, _ = run(configure("run", *options), kill_after=2)
    assert setting(first) == chosen
    saved: Any = load_checkpoint(next(Path(first.options.output_dir).glob("model_*.pth")))
    assert saved["cpu_setting"] == chosen._asdict()
    monkeypatch.setattr(timed_steps._Trial, "__call__", lambda *_: pytest.fail("timed again"))
    resumed, _ = run(configure("run", *options), resume=True)
    assert setting(resumed) == chosen
    assert resumed._trainer.dtype is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({4: 1.0, 2: 1.0, 1: 1.0}, 1),
        ({4: 1.0, 2: 1.1, 1: 2.0}, 2),
        ({4: 1.0, 2: 1.3, 1: 2.0}, 4),
        ({3: 1.0, 1: 2.0}, 3),
        ({3: 1.0, 1: 1.1}, 1),
    ],
)
def test_more_threads_must_be_faster(seconds: dict[int, float], expected: int) -> None:
    most = CPUSetting("bf16", True, max(seconds))
    found = timed_steps.fewest_threads(most, lambda each: seconds[each.threads])
    assert found == most._replace(threads=expected)


@contextmanager
def busy_loop(core: int) -> Iterator[None]:
    """Another process that occupies a core."""
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or cpu_setting.cores() < 2, reason="needs two cores"
)
def test_timed_steps_beside_a_busy_loop(configure: Configure) -> None:
    """On one core less, the chosen number of threads is not slower than one thread."""
    torch.set_num_threads(cpu_setting.cores())
    with busy_loop(max(os.sched_getaffinity(0))):
        trainer = Trainer(configure("run", *ON, "SOLVER.CPU", "timed"))
        trainer.make_ready()
        chosen = setting(trainer)
        seconds: dict[int, list[float]] = {chosen.threads: [], 1: []}
        trial = timed_steps._Trial(trainer._trainer, next(iter(trainer.open_data())))
        for _ in range(10):  # in turns, so that other programs disturb both
            for threads, times in seconds.items():
                trainer._trainer.set_up_cpu(chosen._replace(threads=threads))
                times.append(trial._step())
    trainer.folder.unlock()
    assert min(seconds[chosen.threads]) < 1.2 * min(seconds[1])


def test_timed_steps_change_nothing(configure: Configure) -> None:
    trainer = Trainer(configure("run", *ON, "SOLVER.CPU", "timed"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = random_state()
    trainer.make_ready()
    assert_equal(trainer.model.state_dict(), before)
    assert_equal(random_state(), state)
    assert not trainer.optimizer.state
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    trainer.folder.unlock()
