"""Temporary data sets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.coco_files import Album, restored_catalogs


@pytest.fixture
def catalogs() -> Iterator[None]:
    with restored_catalogs():
        yield


@pytest.fixture
def album(tmp_path: Path, catalogs: None) -> Album:
    folder = tmp_path / "album"
    folder.mkdir()
    return Album(folder)
