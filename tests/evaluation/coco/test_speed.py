"""Boxes and masks are scored several times as fast as by pycocotools."""

import gc
import statistics
from collections import defaultdict

import pytest

from benchmarks import evaluation as benchmark_evaluation
from benchmarks.evaluation import scorers, synthetic_data
from benchmarks.timing import cpu_seconds
from yolor_d2.evaluation.coco.scoring import score

DETECTIONS = 100  # of an image
AIMS = [("bbox", 2.3), ("segm", 1.3)]  # times as fast at least


def times_as_fast(task: str, *, images: int, repeats: int = 3) -> float:
    """How many times the CPU time of ours pycocotools takes, in this process, by medians."""
    dataset, results = synthetic_data(images, DETECTIONS)
    seconds = defaultdict(list)
    for _ in range(repeats):  # in turns, so that what else the machine does hits both alike
        jobs = scorers(dataset, results, task)
        for name in ("yolor_d2", "pycocotools"):
            seconds[name].append(cpu_seconds(jobs[name]))
    ours, theirs = (statistics.median(seconds[name]) for name in ("yolor_d2", "pycocotools"))
    return theirs / ours


@pytest.mark.parametrize(("task", "aim"), AIMS)
def test_a_small_evaluation_is_fast(task: str, aim: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_evaluation, "SHAPES", 200)
    assert times_as_fast(task, images=40) >= aim


@pytest.mark.slow
@pytest.mark.parametrize(("task", "aim"), AIMS)
def test_a_large_evaluation_is_fast(task: str, aim: float) -> None:
    assert times_as_fast(task, images=1000) >= aim


def test_garbage_is_looked_for_again() -> None:
    score(*synthetic_data(1, 1), "bbox")
    assert gc.isenabled()
