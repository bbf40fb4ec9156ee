"""Data sets that exist during one test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from .factory import Record, make_record
from .loading import NUMBER, Register


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    """Registers made-up data sets, which are removed after the test."""
    names = []

    def add(name: str, number: int = NUMBER, **more: Any) -> list[Record]:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(len(name))
        records = []
        for k in range(number):
            x, y = rng.uniform(0, 20, 2)
            color = (130 + 4 * k, 60, 255 - 4 * k)
            boxes = [(x, y, x + 20, y + 16)]
            record = make_record(
                folder, f"{name}{k}", boxes=boxes, color=color, suffix="jpg", **more
            )
            record["captions"] = [f"image {k}", f"picture number {k}"]
            records.append(record)
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(stuff_classes=list("abcdef"), sem_seg_root=str(folder))
        names.append(name)
        return records

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
