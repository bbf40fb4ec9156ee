"""Labeled data in each format."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.data.formats.registration import NAMES

from .samples import WRITERS

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Write data in a format below the current folder; registered data sets are removed."""
    monkeypatch.chdir(tmp_path)

    def write(name: str) -> Path:
        root = Path(name)
        root.mkdir()
        WRITERS[name](root)
        return root

    yield write
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in set(NAMES.values()) & set(catalog.list()):
            catalog.remove(name)
