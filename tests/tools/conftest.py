"""What the tests of tools share."""

from collections.abc import Iterator

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.data.builtin import register_toy_scenes
from yolor_d2.data.toy_scenes import generate_toy_scenes
from yolor_d2.tools import benchmark_model_setting, check_data

from ..saved_networks import Saved
from .made_up import MadeUp
from .web_pages import ServedPage, serve


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a data set of eight small toy scenes."""
    root = tmp_path_factory.mktemp("toys")
    generate_toy_scenes(root, train=8, val=1, width=160, height=120, progress=False)
    name = "toy_scenes_drawn"
    register_toy_scenes(name, root, "train")
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    MetadataCatalog.remove(f"{name}_panoptic")


@pytest.fixture(scope="module")
def short_turns() -> Iterator[None]:
    """Benchmarks of networks measure each thing once, however short it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_model_setting, "MIN_TURN", 0.0)
        yield


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


@pytest.fixture(scope="module")
def page(saved: Saved) -> Iterator[ServedPage]:
    """The web page of a small network, served on this machine."""
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'yolor_d2[web]'")
    with serve(saved) as served:
        yield served
