"""Metrics that evaluations log."""

import logging
import math

import pytest

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


def test_table_of_the_best_values_so_far(caplog: pytest.LogCaptureFixture) -> None:
    """Also after a resume; values that are not finite are never the best."""
    caplog.set_level(logging.INFO, logger="yolor_d2")
    values = iter([40.0, 45.5, math.nan, 42.0])

    def evaluate() -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": next(values), "APs": 1.0}, "caption": {"CIDEr": math.nan}}

    first = Evaluation(evaluate, period=5)
    run({}, first)
    resumed = Evaluation(evaluate, period=5)
    resumed.load_state_dict(first.state_dict())
    run({}, resumed, start=10)
    assert resumed.best == {"bbox/AP": (45.5, 10)}
    tables = [message for message in caplog.messages if message.startswith("after ")]
    assert [table.splitlines()[3].replace(" ", "") for table in tables] == [
        "|bbox/AP|40|40|5|",
        "|bbox/AP|45.5|45.5|10|",
        "|bbox/AP|-|45.5|10|",
        "|bbox/AP|42|45.5|10|",
    ]
    assert tables[0].splitlines()[0] == "after 5 steps:"
    assert "APs" not in tables[0]
    assert "|caption/CIDEr|-|-|-|" in caplog.text.replace(" ", "")


def test_other_metrics_have_no_table(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="yolor_d2")
    evaluation = Evaluation(lambda: {"speed": 3.0}, period=5)
    run({}, evaluation)
    assert evaluation.state_dict() == {}
    assert "speed" not in caplog.text
