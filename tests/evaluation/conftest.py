"""Data sets that are made for a test and gone after it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.coco_files import Album, restored_catalogues


@pytest.fixture
def catalogues() -> Iterator[None]:
    with restored_catalogues():
        yield


@pytest.fixture
def album(tmp_path: Path, catalogues: None) -> Album:
    folder = tmp_path / "album"
    folder.mkdir()
    return Album(folder)
