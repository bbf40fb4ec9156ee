"""Shared fixtures."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.toy_scenes.builtin import register_toy_scenes
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from .saved_networks import Saved, save_network

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
