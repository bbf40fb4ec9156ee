"""Metrics that evaluations log."""

from yolor_d2.engine.hooks.evaluation import Evaluation

from .scripted import run

SCORES = {"bbox": {"AP": 40.0, "AP-cat": 30.0}}


def test_single_classes_stay_out_of_the_log() -> None:
    trainer = run({}, Evaluation(lambda: SCORES, period=5))
    assert trainer.storage.latest() == {"bbox/AP": (40.0, 9)}


def test_single_classes_of_several_sets_stay_out_of_the_log() -> None:
    """With two data sets, results are nested one level deeper."""
    trainer = run({}, Evaluation(lambda: {"toy-val": SCORES, "other": SCORES}, period=5))
    assert trainer.storage.latest() == {"toy-val/bbox/AP": (40.0, 9), "other/bbox/AP": (40.0, 9)}
