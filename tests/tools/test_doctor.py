"""The report on the installation."""

import email
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


def test_licenses(capsys: pytest.CaptureFixture[str]) -> None:
    """By the three fields of metadata that packages use, and of packages without any."""

    def package(name: str, *fields: str) -> SimpleNamespace:
        text = "\n".join((f"Name: {name}", *fields))
        return SimpleNamespace(metadata=email.message_from_string(text), version="1.0")

    assert doctor.main(["--licenses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("yolor_d2 ")]
    assert line.split() == ["yolor_d2", yolor_d2.__version__, "Apache-2.0"]
    packages = [
        package("d", "License: MIT", "License-Expression: BSD-3-Clause"),
        package("c", "Classifier: License :: OSI Approved :: MIT License", "License: other"),
        package("B", "License: Title", "        whole text"),
        package("a"),
        package("e", "License-File: LICENSE"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "distributions", lambda: packages)
        found = [line.split(maxsplit=2) for line in doctor.licenses()]
    assert {name: text for name, _, text in found} == {
        "a": "not stated",
        "B": "Title",
        "c": "MIT License",
        "d": "BSD-3-Clause",
        "e": "in its LICENSE",
    }


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
