"""Shared fixtures."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.toy_scenes.builtin import register_toy_scenes
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from .saved_networks import Saved, save_network
from .small_runs import Configure, register, small_config

LOGGERS = ("fvcore", "detectron2", "yolor_d2")

logging.getLogger("yolor_d2").setLevel(logging.INFO)  # as in a run; tests read messages
cv2.setNumThreads(0)
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of golden numbers and real samples, which are not in the repository."""
    path = Path(__file__).parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("golden numbers and real samples are not available")
    return path


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A checkpoint with all four tasks."""
    return save_network(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a registered data set of eight small toy scenes."""
    root = tmp_path_factory.mktemp("toys")
    generate_toy_scenes(root, train=8, val=1, width=160, height=120, progress=False)
    name = "toy_scenes_drawn"
    register_toy_scenes(name, root, "train")
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    MetadataCatalog.remove(f"{name}_panoptic")


@pytest.fixture(autouse=True)
def _command_line_of_this_test() -> Iterator[None]:
    """Restore the command line, which the console script changes and errors name."""
    arguments = list(sys.argv)
    yield
    sys.argv = arguments


@pytest.fixture(autouse=True)
def _terminal_of_this_test() -> Iterator[None]:
    """Remove log handlers of the terminal that a test adds: their stream is closed after it."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = {handler for logger in loggers for handler in logger.handlers}
    yield
    for logger in loggers:
        for handler in {*logger.handlers} - before:
            stream = getattr(handler, "stream", None)
            if not Path(str(getattr(stream, "name", ""))).is_file():  # detectron2's files are kept
                logger.removeHandler(handler)


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for DETECTRON2_DATASETS with toy_scenes: 14 to train on, 5 to evaluate on."""
    root = tmp_path_factory.mktemp("datasets")
    generate_toy_scenes(
        root / "toy_scenes", train=14, val=5, width=96, height=64, max_size=50, progress=False
    )
    return root


@pytest.fixture(scope="session")
def toy_sets(toy_root: Path) -> Iterator[tuple[str, str]]:
    """Names of the two data sets, registered in this process."""
    names = register(toy_root)
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        for suffix in ("", "_panoptic"):
            MetadataCatalog.remove(name + suffix)


@pytest.fixture
def configure(toy_sets: tuple[str, str], tmp_path: Path) -> Configure:
    """A configuration of a small run into a folder below tmp_path."""

    def make(folder: str = "run", *overrides: Any) -> CfgNode:
        return small_config(toy_sets, tmp_path / folder, *overrides)

    return make
