"""Benchmark of drawing."""

import json
from pathlib import Path

import pytest

from benchmarks import evaluation
from benchmarks.__main__ import main
from benchmarks.pictures import AIMED, PEER


def test_numbers_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "SHAPES", 20)
    path = tmp_path / "numbers.json"
    main(["pictures", "--objects", "2", "--repeats", "1", "--json", str(path)])
    numbers = json.loads(path.read_text())["pictures"]
    assert numbers["settings"] == {"objects": 2, "repeats": 1}
    assert len(numbers["milliseconds"]) == 4
    for times in numbers["milliseconds"].values():
        assert times.keys() == {"yolor_d2", PEER}
        assert min(times.values()) > 0
    assert f"{AIMED} within 60 ms" in capsys.readouterr().out
