"""Logs of a run: each step once, also after kills and resumes."""

import csv
import json
import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from yolor_d2.engine.hooks.progress import FirstSteps
from yolor_d2.engine.writers import (
    CSVWriter,
    JSONLinesWriter,
    ProgressPrinter,
    build_writers,
    read_csv,
)

from .hooks.scripted import ScriptedTrainer

Row = Mapping[str, float]


class StepTrainer(ScriptedTrainer):
    """Logs the values of a training step; the loss depends on the iteration."""

    def run_step(self) -> None:
        values = {"total_loss": 10.0 * self.iter, "loss_box": 9.0 * self.iter, "loss_cls": 1.0}
        times = {"time/data": 2.0, "time/forward": 30.0, "time/backward": 60.0, "time/step": 100.0}
        self.storage.put_scalars(**values, **times, images_per_second=80.0)
        self.storage.put_scalar("lr", 0.001, smoothing_hint=False)
        super().run_step()


def train(
    folder: Path, *, start: int, stop: int, script: Mapping[int, Row] | None = None, **more: Any
) -> None:
    """Train a part of a run that writes every second step, and after the last one."""
    writers = build_writers(folder, max_iter=100, **more)
    hooks: list[HookBase] = [PeriodicWriter(writers, period=2)]
    StepTrainer(script or {}, hooks).train(start, stop)


def from_json(folder: Path) -> dict[int, dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert len({row["iteration"] for row in rows}) == len(rows)
    return {row.pop("iteration"): row for row in rows}


def rows(folder: Path) -> dict[int, dict[str, float]]:
    """Rows of the CSV file, which must equal those of the JSON lines."""
    found = read_csv(folder / "metrics.csv")
    assert found == from_json(folder)
    with (folder / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(found)
    return found


def test_rows(tmp_path: Path) -> None:
    train(tmp_path, start=0, stop=5)
    found = rows(tmp_path)
    assert list(found) == [1, 3, 4]
    assert found[3]["lr"] == 0.001
    assert found[3]["total_loss"] == 15.0  # the median of four steps


def test_later_metrics_get_columns(tmp_path: Path) -> None:
    train(tmp_path, start=0, stop=8, script={2: {"bbox/AP": 7.0, "a, b": 1.0}, 7: {"bbox/AP": 9.0}})
    found = rows(tmp_path)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header.endswith('lr,bbox/AP,"a, b"')
    assert found[2] == {"bbox/AP": 7.0, "a, b": 1.0}
    assert found[7]["bbox/AP"] == 9.0
    assert "bbox/AP" not in found[5]
    assert list(found) == [1, 2, 3, 5, 7]


def test_resumed_run_replaces_repeated_steps(tmp_path: Path) -> None:
    train(tmp_path, start=0, stop=8, script={3: {"bbox/AP": 7.0}, 5: {"bbox/AP": 8.0}})
    train(tmp_path, start=5, stop=10, script={6: {"caption/CIDEr": 0.5}})
    found = rows(tmp_path)
    assert list(found) == [1, 3, 5, 6, 7, 9]
    assert found[3]["bbox/AP"] == 7.0
    assert "bbox/AP" not in found[5]
    assert found[6] == {"caption/CIDEr": 0.5}


def test_repeated_evaluation_is_in_the_row_of_its_step(tmp_path: Path) -> None:
    """A run that was killed during an evaluation repeats it when it is resumed."""
    train(tmp_path, start=0, stop=4)
    writers = [CSVWriter(tmp_path / "metrics.csv"), JSONLinesWriter(tmp_path / "training.jsonl")]
    with EventStorage(3) as storage:
        storage.put_scalar("bbox/AP", 7.0, smoothing_hint=False)
        storage.iter = 4
        storage.put_scalar("total_loss", 40.0)
        for writer in writers:
            writer.write()
    found = rows(tmp_path)
    assert found[3]["bbox/AP"] == 7.0
    assert found[3]["total_loss"] == 15.0
    assert found[4] == {"total_loss": 40.0}


@pytest.mark.parametrize("name", ["metrics.csv", "training.jsonl"])
def test_incomplete_last_line_is_dropped(tmp_path: Path, name: str) -> None:
    train(tmp_path, start=0, stop=4)
    path = tmp_path / name
    path.write_text(path.read_text()[:-9])
    train(tmp_path, start=4, stop=6)
    assert list(read_csv(tmp_path / "metrics.csv")) == [1, 3, 5][:: 2 if "csv" in name else 1]
    assert list(from_json(tmp_path)) == [1, 3, 5][:: 2 if "json" in name else 1]


@pytest.mark.parametrize("name", ["metrics.csv", "training.jsonl"])
def test_full_disk_delays_rows(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The second write fails after one and a half rows."""
    kind = CSVWriter if "csv" in name else JSONLinesWriter
    writer = kind(tmp_path / name)
    lines = kind.lines

    def write(*iterations: int) -> None:
        for iteration in iterations:
            storage.iter = iteration
            storage.put_scalar(f"x{iteration % 2}", 1.0 * iteration, smoothing_hint=False)
        writer.write()

    def torn(self: Any, rows: Mapping[int, Row]) -> str:
        with self.path.open("a") as file:
            file.write(lines(self, rows)[:-3])
        raise OSError(28, "No space left on device")

    with EventStorage(0) as storage:
        write(0, 1)
        monkeypatch.setattr(kind, "lines", torn)
        write(2, 3)
        monkeypatch.setattr(kind, "lines", lines)
        write(4, 5)

    read = writer.read()
    assert list(read) == [0, 1, 2, 3, 4, 5]
    assert [value for row in read.values() for value in row.values()] == [0, 1, 2, 3, 4, 5]
    assert "training continues" in caplog.text


def test_unreadable_files_are_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For example after a spreadsheet has saved the table, or after a power failure."""
    train(tmp_path, start=0, stop=4)
    table = tmp_path / "metrics.csv"
    table.write_text(table.read_text().replace(",", ";"))
    (tmp_path / "training.jsonl").write_bytes(b"\0" * 100 + b"\n")
    with caplog.at_level(logging.WARNING):
        train(tmp_path, start=4, stop=8)
    assert set(read_csv(table)) == set(from_json(tmp_path))
    assert min(read_csv(table)) >= 4
    assert "metrics.csv is damaged or was edited; it is now metrics.csv.unreadable" in caplog.text
    assert (tmp_path / "metrics.csv.unreadable").read_text().startswith("iteration;")
    assert (tmp_path / "training.jsonl.unreadable").is_file()


def test_nonfinite_values_are_written(tmp_path: Path) -> None:
    train(tmp_path, start=0, stop=2, script={1: {"bbox/AP": math.nan}})
    assert math.isnan(read_csv(tmp_path / "metrics.csv")[1]["bbox/AP"])
    assert from_json(tmp_path)[1]["bbox/AP"] is None  # JSON has no NaN
    train(tmp_path, start=2, stop=4)  # reads and rewrites the file
    assert math.isnan(read_csv(tmp_path / "metrics.csv")[1]["bbox/AP"])
    assert from_json(tmp_path)[1]["bbox/AP"] is None
    assert from_json(tmp_path)[3]["total_loss"] == 25.0


def test_tensorboard_hides_repeated_steps(tmp_path: Path) -> None:
    train(tmp_path, start=0, stop=8)
    train(tmp_path, start=5, stop=8)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("total_loss")
    assert [event.step for event in events] == [1, 3, 5, 7]


def test_full_disk_ends_only_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    monkeypatch.setattr("threading.excepthook", lambda failure: None)  # from TensorBoard's thread
    train(tmp_path, start=0, stop=8)
    assert caplog.text.count("No space left on device") == 1
    assert "no more events for TensorBoard, training continues" in caplog.text
    assert list(rows(tmp_path)) == [1, 3, 5, 7]


def test_progress_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="yolor_d2"):
        train(tmp_path, start=0, stop=4)
    lines = [record.message for record in caplog.records if record.message.startswith("step")]
    assert len(lines) == 2  # none after training, because no value is new
    head, losses, rate, speed, memory = lines[0].split(" | ")
    assert head == "step 2 of 100 (2.0 %), 0:00:10 left"
    assert losses == "loss 5: box 4.5, cls 1"
    assert rate == "lr 0.001"
    assert speed == "80 images/s, 100 ms (data 2, forward 30, backward 60)"
    assert 0.05 < float(memory.removesuffix(" GB")) < 100


def test_remaining_time_includes_time_between_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([1000.0, 1060.0])  # a minute for two steps of 100 ms, as with an evaluation
    monkeypatch.setattr("yolor_d2.engine.writers.time.monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO, logger="yolor_d2"):
        train(tmp_path, start=0, stop=4)
    assert "step 4 of 100 (4.0 %), 0:48:00 left" in caplog.text


def test_first_steps_are_printed(caplog: pytest.LogCaptureFixture) -> None:
    """The first without the remaining time, which its duration does not tell; once each."""
    printer = ProgressPrinter(max_iter=100)
    with caplog.at_level(logging.INFO, logger="yolor_d2"):
        StepTrainer({}, [FirstSteps([printer]), PeriodicWriter([printer], period=2)]).train(40, 44)
    heads = [m.split(" | ")[0] for m in caplog.messages if m.startswith("step")]
    assert heads[0] == "step 41 of 100 (41.0 %)"
    assert [head.rpartition(",")[0] for head in heads[1:]] == [
        "step 42 of 100 (42.0 %)",
        "step 44 of 100 (44.0 %)",
    ]
    assert all(head.endswith(" left") for head in heads[1:])


class FakeRun:
    """The part of wandb's run that the tests need."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.id = options["id"] or "fresh"
        self.rows: list[dict[str, float]] = []
        self.is_finished = False

    def define_metric(self, name: str, *, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "iteration")

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    made: list[FakeRun] = []
    module = ModuleType("wandb")
    module.__spec__ = torch.__spec__  # any module spec

    def init(**options: Any) -> FakeRun:
        made.append(FakeRun(**options))
        return made[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return made


def test_weights_and_biases_run_is_resumed(tmp_path: Path, runs: list[FakeRun]) -> None:
    train(tmp_path, start=0, stop=4, wandb=True)
    train(tmp_path, start=2, stop=6, wandb=True)
    train(tmp_path, start=0, stop=2, wandb=True)  # a new run

    assert [run.options["id"] for run in runs] == [None, "fresh", None]
    assert runs[0].options["resume"] == "allow"
    assert [row["iteration"] for row in runs[1].rows] == [3, 5]
    assert runs[0].rows[0]["total_loss"] == 5.0
    assert all(run.is_finished for run in runs)


def test_missing_weights_and_biases_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolor_d2.engine.writers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"LOG.WANDB needs Weights & Biases: pip install wandb"):
        build_writers(tmp_path, max_iter=1, wandb=True)
    assert not list(tmp_path.iterdir())
