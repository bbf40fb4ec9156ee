"""Fixtures of the export tests."""

from pathlib import Path
from typing import Any

import pytest

from yolor_d2.export import bundle
from yolor_d2.tools import export

from .networks import OBJECT_TOKENS, ONNX, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network whose captions use detected objects."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), *OBJECT_TOKENS)


@pytest.fixture(scope="module")
def onnx_folder(checkpoint: Path) -> Path:
    for name in ONNX:
        pytest.importorskip(name)
    folder = checkpoint.parent / "onnx"
    assert export.main(["--weights", str(checkpoint), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def runner() -> Any:
    return bundle.load_runner()
