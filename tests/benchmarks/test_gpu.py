"""The benchmark of a GPU, on a CPU with a tiny network."""

import json
import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import main, parse_args
from benchmarks.gpu import command, measurements
from benchmarks.gpu.measurements import SkippedError
from benchmarks.gpu.part import PARTS, run_part
from benchmarks.gpu.processes import measure_processes
from benchmarks.model import make_setting
from benchmarks.model_setting import Aim, Result, Setting, Table
from tests.modeling.factory import tiny_config
from yolor_d2.tasks import TASKS

pytestmark = pytest.mark.usefixtures("short_turns")

FEW = ("--size", "64", "--batch", "1", "--train-batch", "2", "--memory-batch", "2")


def arguments(folder: Path, *more: str, tasks: tuple[str, ...] = TASKS) -> list[str]:
    config = folder / "config.yaml"
    config.write_text(tiny_config(tasks).dump())
    files = ("--config-file", str(config), "--output", str(folder / "out"))
    return ["gpu", *files, *FEW, "--repeats", "1", "--threads", "1", "--device", "cpu", *more]


def in_this_process(request: dict[str, Any], limit: float) -> str:
    args = Namespace(**request["args"])
    result = Path(request["result"])
    run_part(
        PARTS[request["part"]][0], make_setting(args), lambda f: result.write_text(json.dumps(f))
    )
    return ""


def results_of(folder: Path, *more: str, tasks: tuple[str, ...] = TASKS) -> dict[str, Any]:
    args = parse_args(arguments(folder, *more, tasks=tasks))
    returned = command.run(args, run_part=in_this_process)
    written = json.loads((folder / "out/gpu.json").read_text())
    assert written == json.loads(json.dumps(returned))
    return written


def test_a_cpu_equals_itself_and_resumes_exactly(tmp_path: Path) -> None:
    parts = results_of(tmp_path, "--parts", "parity", "resume", tasks=("detection",))["parts"]
    for part in parts.values():
        assert "error" not in part
        assert all(aim["reached"] and aim["value"] == 0 for aim in part["aims"])
    resumed = parts["resume"]["tables"][0]["rows"]
    assert resumed == {"the same run again": {"different tensors": 0}} | {
        "resumed": {"different tensors": 0}
    }
    table = (tmp_path / "out/gpu.md").read_text()
    assert "| parity | losses, compared with the CPU: loss_cls" in table
    assert "reached (0)" in table


@pytest.mark.slow
def test_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: measurements.STEPS[name] for name in ("bf16, channels_last", "bf16, Muon")}
    monkeypatch.setattr(measurements, "STEPS", few)
    names = [name for name in PARTS if name != "processes"]
    results = results_of(tmp_path, "--parts", *names)
    assert results["parts"].keys() == set(names)
    for name, part in results["parts"].items():
        assert "error" not in part, name
        values = [
            value
            for table in part["tables"]
            for row in table["rows"].values()
            for value in row.values()
        ]
        assert values or part["skipped"] == "compiling is measured on GPUs"
        assert all(map(math.isfinite, values)), name


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    args = parse_args(arguments(tmp_path, tasks=("detection",)))
    (result,) = measure_processes(make_setting(args))
    assert [table.title for table in result.tables] == [
        "all-reduce of 64 MiB, 2 processes",
        "training step, 2 x 2 images, 64",
    ]
    assert all(aim.reached for aim in result.aims)


def test_parts_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(setting: Setting) -> Iterator[Result]:
        yield Result([Table("before", {"job": {"ms": 1.0}})], [])
        raise torch.OutOfMemoryError("too much\nof | everything")

    def skips(setting: Setting) -> Iterator[Result]:
        raise SkippedError("one GPU")
        yield

    def misses(setting: Setting) -> Iterator[Result]:
        yield Result([], [Aim("nothing differs", 0.5, reached=False)])

    fakes = {"parity": (fails, 0.5), "steps": (skips, 0.5), "forward": (misses, 0.5)}
    for name, part in fakes.items():
        monkeypatch.setitem(PARTS, name, part)
    parts = results_of(tmp_path, "--parts", *fakes, tasks=("detection",))["parts"]
    assert parts["parity"]["error"] == "OutOfMemoryError: too much"
    assert parts["parity"]["tables"][0]["title"] == "before"
    assert parts["steps"]["skipped"] == "one GPU"
    table = (tmp_path / "out/gpu.md").read_text()
    for line in ("1.0 ms", "OutOfMemoryError: too much", "| one GPU", "**missed** (0.5)"):
        assert line in table


def test_limit_of_time(tmp_path: Path) -> None:
    args = parse_args(arguments(tmp_path))
    request = {
        "part": "parity",
        "args": command._part_args(args),
        "result": str(tmp_path / "parity.json"),
    }
    assert command._in_process(request, 0.2) == "stopped after 0 s"
    main(arguments(tmp_path, "--minutes", "0", "--parts", "steps", "parity"))
    parts = json.loads((tmp_path / "out/gpu.json").read_text())["parts"]
    assert parts == {name: {"error": "no time was left"} for name in ("steps", "parity")}


@pytest.mark.slow
def test_error_before_a_part_is_one_line(tmp_path: Path) -> None:
    given = arguments(tmp_path, "--parts", "parity")
    given[given.index("--config-file") + 1] = "missing.yaml"
    main(given)
    error = json.loads((tmp_path / "out/gpu.json").read_text())["parts"]["parity"]["error"]
    assert error.startswith("ended with exit code 1: ")
    assert "missing.yaml" in error


def test_a_gpu_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="benchmark gpu: --device cuda: PyTorch finds no GPU"):
        main([*arguments(tmp_path), "--device", "cuda"])
