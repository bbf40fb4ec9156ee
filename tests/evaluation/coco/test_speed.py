"""Scoring of boxes and masks is several times faster than pycocotools."""

import gc
import statistics
from collections import defaultdict

import pytest

import benchmarks.evaluation
from benchmarks.evaluation import scorers, synthetic_data
from benchmarks.timing import cpu_seconds
from yolor_d2.evaluation.coco.scoring import score

DETECTIONS = 100  # per image
MIN_SPEEDUPS = [("bbox", 2.3), ("segm", 1.3)]


def speedup(task: str, *, images: int, repeats: int = 3) -> float:
    """Median CPU time of pycocotools in this process, relative to ours."""
    dataset, results = synthetic_data(images, DETECTIONS)
    seconds = defaultdict(list)
    for _ in range(repeats):  # alternating, so that other load affects both
        jobs = scorers(dataset, results, task)
        for name in ("yolor_d2", "pycocotools"):
            seconds[name].append(cpu_seconds(jobs[name]))
    ours, theirs = (statistics.median(seconds[name]) for name in ("yolor_d2", "pycocotools"))
    return theirs / ours


@pytest.mark.parametrize(("task", "minimum"), MIN_SPEEDUPS)
def test_a_small_evaluation_is_fast(
    task: str, minimum: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks.evaluation, "SHAPES", 200)
    assert speedup(task, images=40) >= minimum


@pytest.mark.slow
@pytest.mark.parametrize(("task", "minimum"), MIN_SPEEDUPS)
def test_a_large_evaluation_is_fast(task: str, minimum: float) -> None:
    assert speedup(task, images=1000) >= minimum


def test_scoring_enables_garbage_collection_again() -> None:
    score(*synthetic_data(1, 1), "bbox")
    assert gc.isenabled()
