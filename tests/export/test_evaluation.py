"""Exported files are evaluated and timed like the network."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks.export
from benchmarks.__main__ import main as run_benchmark
from yolor_d2.export.evaluation import METRICS, PARTS
from yolor_d2.export.parity import Difference
from yolor_d2.tools import evaluate, export


def test_evaluation_of_exported_files(
    checkpoint: Path,
    onnx_folder: Path,
    runner: Any,
    toy_sets: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """The exported file and the network have the same metrics, from one command or from two."""

    def already_exported(*_: Any, folder: Path, **__: Any) -> list[Difference]:
        shutil.copytree(onnx_folder, folder, dirs_exist_ok=True)
        return [Difference("vision", "boxes", "", 0.0)]

    monkeypatch.setattr(export, "export", already_exported)
    folder, name = tmp_path / "again", toy_sets[1]
    command = ["--weights", str(checkpoint), "--output", str(folder), "--evaluate", name]
    assert export.main(command) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-4:]]
    assert rows[0][1:] == [*METRICS, *PARTS, "ms"]
    assert rows[2][1 : len(METRICS)] == rows[3][1 : len(METRICS)]

    graph = ["--weights", str(folder / "vision.onnx"), "--output", str(tmp_path / "eval")]
    assert evaluate.main([*graph, "--data", name]) == 0
    assert rows[3][1] in capsys.readouterr().out
    assert (tmp_path / "eval" / "metrics.json").is_file()
    with pytest.raises(SystemExit):
        evaluate.main(graph)
    assert "names no data set; pass --data DATA" in capsys.readouterr().err


def test_programs_of_a_folder_are_not_run(
    onnx_folder: Path, toy_sets: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder from a stranger is evaluated by the runner of the package."""
    folder, trace = tmp_path / "exported", tmp_path / "trace"
    shutil.copytree(onnx_folder, folder)
    for path in folder.glob("*.py"):
        path.write_text(f"open({str(trace)!r}, 'w')\n" + path.read_text())
        monkeypatch.delitem(sys.modules, path.stem, raising=False)  # imported by other tests
    command = ["--weights", str(folder / "vision.onnx"), "--output", str(tmp_path / "eval")]
    assert evaluate.main([*command, "--data", toy_sets[1]]) == 0
    assert not trace.exists()


@pytest.mark.slow
def test_the_benchmark(
    checkpoint: Path,
    onnx_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """All its numbers are there."""

    def already_exported(*_: Any, folder: Path, **__: Any) -> None:
        shutil.copytree(onnx_folder, folder, dirs_exist_ok=True)

    monkeypatch.setattr(benchmarks.export, "export", already_exported)
    monkeypatch.setattr(benchmarks.model_setting, "MIN_TURN", 0.0)
    form = benchmarks.export.ONNX
    few = ["--forms", form, "--size", "64", "96", "--repeats", "1", "--threads", "1", "--cpu-time"]
    path = tmp_path / "numbers.json"
    run_benchmark(["export", "--weights", str(checkpoint), *few, "--json", str(path)])

    forward, _, whole = json.loads(path.read_text())["export"]["tables"]
    assert forward["title"] == "forward, 1 x 64 x 64"
    names = benchmarks.export.NHWC, benchmarks.export.NCHW, form
    assert list(forward["rows"]) == list(names)
    assert list(whole["rows"]) == [names[0], form]
    exported = whole["rows"][form]
    assert list(exported) == ["MB", *PARTS, "ms", "times as fast"]
    assert exported["MB"] > 0.1
    assert exported["ms"] == pytest.approx(sum(exported[part] for part in PARTS))
    assert all(row["ms"] > 0 for table in (forward, whole) for row in table["rows"].values())
    assert "onnxruntime" in capsys.readouterr().out
