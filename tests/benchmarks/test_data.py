"""Benchmark of the data pipeline."""

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from benchmarks import data_peer
from benchmarks.__main__ import main
from benchmarks.data import CASES, PARTS, REST
from benchmarks.timing import StopWatch

FEW = ["--samples", "18", "--repeats", "1", "--size", "96", "--peer", "none"]  # more than a batch


def numbers_of(folder: Path, *argv: object) -> dict:
    path = folder / "numbers/benchmark.json"
    main(["data", *map(str, argv), *FEW, "--json", str(path)])
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def toy_numbers(tmp_path_factory) -> dict:
    return numbers_of(tmp_path_factory.mktemp("benchmark"), "--toy", 4)


def test_numbers_are_complete(toy_numbers):
    facts = toy_numbers["machine"]
    assert facts.keys() >= {"cpu", "cores", "python", "opencv", "torch", "yolor_d2"}
    data = toy_numbers["data"]
    assert data["data"]["images"] == 4
    assert data["data"]["objects"] > 0
    assert data["settings"] == {"samples": 18, "repeats": 1, "size": 96}
    assert data["samples_per_second"].keys() == CASES.keys()
    for rates in data["samples_per_second"].values():
        assert len(rates["runs"]) == 1
        assert rates["median"] > 0
    assert data["peer"] is None


def test_times_of_parts_add_up(toy_numbers):
    splits = toy_numbers["data"]["strong_view_time"]
    assert splits.keys() == {"batch", "dataset"}
    for split in splits.values():
        assert split["parts"].keys() == {*PARTS, REST}
        # A part without time is a function that is no longer called.
        assert all(part["ms"] > 0 for part in split["parts"].values())
        assert sum(part["share"] for part in split["parts"].values()) == pytest.approx(1)
        assert sum(part["ms"] for part in split["parts"].values()) == pytest.approx(split["ms"])
        assert abs(split["overhead"]) < 0.5


def test_coco_is_unregistered_afterwards(tmp_path, shared_dir, capsys):
    before = DatasetCatalog.list()
    numbers = numbers_of(tmp_path, "--coco", shared_dir / "data/coco-mini", "--images", 6)
    assert numbers["data"]["data"]["images"] == 6
    assert numbers["data"]["samples_per_second"]["strong_cold"]["median"] > 0
    printed = capsys.readouterr().out
    assert all(case.label in printed for case in CASES.values())
    assert DatasetCatalog.list() == before


def test_labels_for_the_peer(tmp_path):
    record = {
        "file_name": str(tmp_path / "a.jpg"),
        "width": 10,
        "height": 20,
        "annotations": [
            {"category_id": 3, "segmentation": [[0, 0, 1, 0, 1, 1], [0, 0, 10, 0, 10, 10, 0, 20]]},
            {"category_id": 5, "iscrowd": 1, "segmentation": {"size": [20, 10], "counts": [200]}},
        ],
    }
    data_peer.write_labels([record], images=tmp_path / "images", labels=tmp_path / "labels")
    names = sorted(path.stem for path in (tmp_path / "labels").iterdir())
    assert len(names) == data_peer.MIN_IMAGES
    assert names == sorted(path.stem for path in (tmp_path / "images").iterdir())
    label = (tmp_path / "labels/a_0.txt").read_text()
    corners = [0, 0, 1, 0, 1, 0.5, 0, 1]  # of the larger part, in relative coordinates
    assert [float(word) for word in label.split()] == [3, *corners]


def test_absent_peer_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data_peer, "find_spec", lambda name: None)
    assert data_peer.prepare(tmp_path / "config") is None
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "pip install ultralytics" in message


def test_stop_watch_excludes_nested_calls(monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    watch = StopWatch()
    inner = watch.wrap(lambda: None, "inner")
    outer = watch.wrap(inner, "outer")
    outer()
    assert watch.seconds == {"inner": 10, "outer": 20}
    assert watch.calls == 2


def test_stop_watch_restores_watched_functions():
    class Owner:
        def method(self) -> int:
            return 7

    method = Owner.method
    watch = StopWatch()
    with watch.watch({"part": [(Owner, "method")]}):
        assert Owner().method() == 7
        assert Owner.method is not method
    assert Owner.method is method
    assert watch.calls == 1
