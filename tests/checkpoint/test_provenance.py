"""Provenance of a run."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path

import pytest
import torch

import yolor_d2
from yolor_d2.checkpoint import provenance
from yolor_d2.checkpoint.provenance import commit, describe_run, versions, write_provenance
from yolor_d2.checkpoint.saving import load_checkpoint, save_checkpoint
from yolor_d2.errors import CheckpointError

ARGUMENTS = {
    "argv": ("--num-gpus", "2"),
    "data": {"toy": {"json_file": "0a"}},
    "classes": {"thing_classes": ["cat"]},
}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package at the top of a repository with one commit."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    return package


def test_provenance_is_plain_data(tmp_path: Path) -> None:
    found = describe_run("VERSION: 2\n", **ARGUMENTS)

    assert found["config"] == "VERSION: 2\n"
    assert found["argv"] == ["--num-gpus", "2"]
    assert (found["data"], found["classes"]) == (ARGUMENTS["data"], ARGUMENTS["classes"])
    save_checkpoint({"provenance": found}, tmp_path / "x.pth")
    assert load_checkpoint(tmp_path / "x.pth")["provenance"] == found
    write_provenance(tmp_path, found)
    assert json.loads((tmp_path / "provenance.json").read_text()) == found


def test_provenance_has_no_machine_specific_values() -> None:
    text = json.dumps(describe_run("", **{**ARGUMENTS, "argv": ()}))
    for secret in (platform.node(), str(Path.home()), os.getcwd()):
        assert secret not in text


def test_versions() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["yolor_d2"] == yolor_d2.__version__
    assert {"torchvision", "detectron2", "numpy", "opencv", "cuda"} <= found.keys()
    assert {type(v) for v in found.values()} <= {str, type(None)}


def test_library_of_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like detectron2 on the path, not installed."""

    def unknown(name: str) -> str:
        raise provenance.PackageNotFoundError(name)

    monkeypatch.setattr(provenance, "version", unknown)
    assert versions()["detectron2"] is None


def test_commit(package: Path) -> None:
    head = git(package, "rev-parse", "HEAD")
    assert commit(package) == head
    (package / "new.py").touch()  # not in a commit
    assert commit(package) == head
    (package / "code.py").write_text("a = 2\n")
    assert commit(package) == f"{head}+changes"


def test_package_inside_another_repository(tmp_path: Path, package: Path) -> None:
    """Installed inside another repository, or in none."""
    installed = tmp_path / "venv/package"
    installed.mkdir(parents=True)
    assert commit(installed) is None
    git_folder = tmp_path / ".git"
    git_folder.rename(tmp_path / "hidden")
    assert commit(package) is None


def test_without_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit(package) is None


def test_git_timeout(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = package / "git"
    script.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(package))
    monkeypatch.setattr(provenance, "GIT_SECONDS", 0.1)
    started = time.monotonic()
    assert commit(package) is None
    assert time.monotonic() - started < 30


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a/provenance\.json: cannot be written: No such"):
        write_provenance(tmp_path / "a", {})
