"""The tables of `python -m tests.reliability`, with few kills, steps and requests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..engine.test_interruption import HOST, ROOT
from .__main__ import TABLES, main, make_parser


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.reliability", *arguments]
    return subprocess.run(
        [*command, "--folder", str(folder)],
        cwd=ROOT,
        env={**os.environ, **HOST},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("table", "count"),
    [("kills", 5), ("equality", 4), ("soak", 200), ("requests", 200), ("disks", 6)],
)
def test_every_row_is_as_promised(tmp_path: Path, table: str, count: int) -> None:
    done = call(tmp_path, table, "--count", str(count))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "| ok" in done.stdout


def test_finished_rows_are_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DETECTRON2_DATASETS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # restored after the test
    for result in ("ok", "threads"):
        rows = [{"steps": 7, "result": result}]
        content = {"soak": {"rows": rows, "seconds": 90}}
        (tmp_path / "soak.json").write_text(json.dumps(content))
        assert main(["soak", "--folder", str(tmp_path)]) == (result != "ok")
        first, *_, last = capsys.readouterr().out.splitlines()
        assert first.endswith(", 1.5 minutes")
        assert last.split() == ["|", "7", "|", result, "|"]


def test_counts_have_defaults() -> None:
    for name, (count, _) in TABLES.items():
        assert make_parser().parse_args([name]).count == count
