"""The report on the installation."""

import subprocess
import sys
from pathlib import Path

import pytest

import yolor_d2
from yolor_d2.tools import doctor

ROOT = Path(__file__).parents[2]


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["yolor_d2"].startswith(yolor_d2.__version__)
    assert lines["network"].startswith("trains and predicts on cpu")
    assert {"python", "torch", "detectron2", "cpu", "java", "data", "disk"} <= set(lines)
    assert lines["no"] == "problems"


def test_problems(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> list[str]:
        raise RuntimeError("an operator is missing\nmore lines")

    monkeypatch.setattr(doctor, "run_network", fail)
    monkeypatch.setattr(doctor, "version", lambda name: "0.0.1")
    assert doctor.main([]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    assert "problem: network: RuntimeError: an operator is missing" in lines
    (requirements,) = [line for line in lines if line.startswith("problem: requirements: ")]
    assert "torch: 0.0.1, but >=2.6 is needed" in requirements


def test_help_names_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m yolor_d2.tools.doctor` puts the file's name into sys.argv."""
    monkeypatch.setattr(sys, "argv", ["yolor_d2/tools/doctor.py"])
    with pytest.raises(SystemExit):
        doctor.main(["--help"])
    assert capsys.readouterr().out.startswith("usage: yolor-d2 doctor [")


def test_without_detectron2() -> None:
    """The console script reports it; importing yolor_d2 raises an error."""
    code = (
        "import sys; sys.modules['detectron2'] = None; import yolor_d2_cli; "
        "sys.exit(yolor_d2_cli.main(['doctor', '--quick']))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "problem: detectron2: install it, or run `python install_detectron2.py`" in done.stdout
