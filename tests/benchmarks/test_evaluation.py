"""Benchmark of evaluation: complete results, and refusal of wrong metrics."""

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from benchmarks import evaluation
from benchmarks.__main__ import main

FEW = ["--images", "6", "--detections", "20", "--processes", "2", "--repeats", "2"]


@pytest.fixture(autouse=True)
def little_work(monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "SHAPES", 20)
    monkeypatch.setattr(evaluation, "MAP_IMAGES", 2)


def test_numbers_are_complete(tmp_path: Path, capsys) -> None:
    before = DatasetCatalog.list()
    path = tmp_path / "numbers.json"

    main(["evaluation", *FEW, "--json", str(path)])

    numbers = json.loads(path.read_text())["evaluation"]
    assert numbers["settings"] == {"images": 6, "detections": 20, "processes": 2, "repeats": 2}
    for task in ("bbox", "segm"):
        scoring = numbers["scoring"][task]
        assert scoring["times as fast"] == scoring["pycocotools"] / scoring["yolor_d2"]
        assert 0 < scoring["AP"] < 100
        assert scoring["seconds on free cores"] > scoring["serial"] > 0
        assert scoring["parallel"] > 0
    assert all(cost > 0 for cost in numbers["milliseconds_per_image"].values())
    assert len(numbers["milliseconds_per_image"]) == 4
    out = capsys.readouterr().out
    assert "at least 2.3 times as fast" in out
    assert "semantic map (from 2 images)" in out
    assert "2 processes at least 1.8 times as fast as one" in out
    assert DatasetCatalog.list() == before


def test_different_metrics_are_an_error(monkeypatch) -> None:
    score = evaluation.score

    def wrong(*args, **options):
        scores = score(*args, **options)
        return scores._replace(precision=scores.precision * 0.999)

    monkeypatch.setattr(evaluation, "score", wrong)
    with pytest.raises(SystemExit, match="bbox differs by"):
        main(["evaluation", *FEW])
