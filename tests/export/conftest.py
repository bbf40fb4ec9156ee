"""Fixtures of the export tests."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from yolor_d2.export import bundle
from yolor_d2.tools import export

from .networks import OBJECT_TOKENS, ONNX, write_checkpoint


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that take long, which the processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def checkpoint(shared_folder: Path) -> Path:
    """A checkpoint of a network whose captions use detected objects."""
    with locked(shared_folder / "checkpoint.lock"):
        path = shared_folder / "model.pth"
        return path if path.exists() else write_checkpoint(shared_folder, *OBJECT_TOKENS)


@pytest.fixture(scope="session")
def onnx_folder(shared_folder: Path, checkpoint: Path) -> Path:
    for name in ONNX:
        pytest.importorskip(name)
    folder = shared_folder / "onnx"
    with locked(shared_folder / "onnx.lock"):
        if not folder.exists():
            assert export.main(["--weights", str(checkpoint), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def runner() -> Any:
    return bundle.load_runner()
