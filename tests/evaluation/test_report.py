"""Results as tables and files."""

import copy
import json
import logging
import math
import pickle
from pathlib import Path

from yolor_d2.evaluation import report
from yolor_d2.evaluation.caption.baselines import BASELINES
from yolor_d2.evaluation.caption.metrics import METRICS
from yolor_d2.evaluation.missing import Missing
from yolor_d2.evaluation.report import (
    flat_metrics,
    headline,
    per_class_csv,
    results_table,
    write_report,
)

RESULTS = {
    "bbox": {"AP": 41.23456, "APs": Missing("no small objects"), "AP-cat": 40.0, "AP-kite": 2.5},
    "sem_seg": {"mIoU": 50.0, "IoU-wall-brick": 12.0, "IoU-cat": math.nan, "ACC-cat": 1 / 3},
    "caption": {"Bleu_1": 0.5, "METEOR": math.nan, "sixth_Bleu_1": 0.98765},
}


def test_flat_metrics() -> None:
    assert flat_metrics(RESULTS) == {
        "bbox/AP": 41.23456,
        "bbox/APs": None,
        "sem_seg/mIoU": 50.0,
        "caption/Bleu_1": 0.5,
        "caption/METEOR": None,
        "caption/sixth_Bleu_1": 0.98765,
        "reasons": {"bbox/APs": "no small objects"},
    }
    assert flat_metrics({"bbox": {"AP": 1.0}}) == {"bbox/AP": 1.0}


def test_headline_has_no_per_class_metrics() -> None:
    assert list(headline(RESULTS)["sem_seg"]) == ["mIoU"]
    several = headline({"toy-val": RESULTS, "other": {"bbox": {"AP": 1.0, "AP-a/b": 2.0}}})
    assert list(several["toy-val"]["sem_seg"]) == ["mIoU"]
    assert several["other"] == {"bbox": {"AP": 1.0}}


def test_a_missing_number_is_nan_with_a_reason() -> None:
    number = Missing("no Java")
    for same in (number, copy.deepcopy(number), pickle.loads(pickle.dumps(number))):
        assert math.isnan(same)
        assert same.reason == "no Java"


def test_per_class_csv() -> None:
    assert per_class_csv(RESULTS).splitlines() == [
        "class,bbox/AP,sem_seg/IoU,sem_seg/ACC",
        "cat,40.0,,0.3333",
        "kite,2.5,,",
        "wall-brick,,12.0,",
    ]


def test_tasks_with_the_same_metrics_share_a_table() -> None:
    boxes = RESULTS["bbox"]
    tables = results_table({**RESULTS, "segm": {**boxes, "AP": 100.0}}).split("\n\n")
    lines = [[cell.strip() for cell in row.split("|")[1:-1]] for row in tables[0].splitlines()]
    assert lines[0] == ["", "AP", "APs"]
    assert lines[2:] == [["bbox", "41.23", "-"], ["segm", "100.00", "-"]]
    assert len(tables) == 3
    assert [cell.strip() for cell in tables[2].splitlines()[3].split("|")[2:-1]] == ["0.9877", "-"]


def test_the_caption_table_has_rows_for_model_and_baselines(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    """The same numbers are flat in metrics.json."""
    monkeypatch.setattr(report.logger, "propagate", True)
    caplog.set_level(logging.INFO, logger=report.logger.name)
    numbers = dict.fromkeys(METRICS, 0.5) | {"METEOR": 0.25}
    for name in BASELINES:
        numbers |= {f"{name}_{metric}": 0.75 for metric in METRICS}

    write_report({"caption": numbers}, tmp_path, dataset_name="toys")

    lines = [line for line in caplog.text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["caption", *METRICS, "METEOR"]
    assert cells[2:] == [
        ["model", *["0.5000"] * 6, "0.2500"],
        *([description, *["0.7500"] * 6, "-"] for description in BASELINES.values()),
    ]
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        f"caption/{name}": number for name, number in numbers.items()
    }


def test_report_files(tmp_path: Path) -> None:
    write_report(RESULTS, tmp_path, dataset_name="toys")

    own = tmp_path / "inference/toys"
    assert json.loads((own / "metrics.json").read_text())["caption/Bleu_1"] == 0.5
    assert (tmp_path / "metrics.json").read_text() == (own / "metrics.json").read_text()
    assert (own / "per_class.csv").read_text().startswith("class,")
    assert not list(tmp_path.rglob("*.tmp"))
