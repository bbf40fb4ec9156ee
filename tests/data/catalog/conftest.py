"""A tiny data set in COCO's formats."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..coco_files import Album, restored_catalogs


@pytest.fixture
def album(tmp_path: Path) -> Iterator[Album]:
    """The files of a data set; data sets that a test registers are removed after it."""
    with restored_catalogs():
        yield Album(tmp_path)
