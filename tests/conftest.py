"""What several tests share."""

from pathlib import Path

import cv2
import pytest
import torch

from .saved_networks import Saved, save_network

cv2.setNumThreads(0)
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Golden numbers and real samples, which are no part of the repository."""
    path = Path(__file__).parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("golden numbers and real samples are not here")
    return path


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A checkpoint of all four tasks."""
    return save_network(tmp_path_factory.mktemp("saved"))
