"""Fixtures of the tool tests."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.tools import check_data

from .small_dataset import SmallDataset


@pytest.fixture
def dataset(tmp_path):
    return SmallDataset(tmp_path)


@pytest.fixture
def check(capsys):
    """Runs check_data in this process; returns exit code, output and errors."""

    def run(name, *arguments):
        code = check_data.main(["--dataset", name, "--workers", "0", *arguments])
        return code, *capsys.readouterr()

    known = set(DatasetCatalog.list())
    known_metadata = set(MetadataCatalog.list())
    yield run
    for name in set(DatasetCatalog.list()) - known:
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog.list()) - known_metadata:
        MetadataCatalog.remove(name)
