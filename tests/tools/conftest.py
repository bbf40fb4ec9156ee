"""What the tests of tools share."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.tools import check_data

from .made_up import MadeUp


@pytest.fixture
def made(tmp_path):
    return MadeUp(tmp_path)


@pytest.fixture
def check(capsys):
    """Runs check_data, in this process; its exit code, output and error output."""

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
