"""Reading published files."""

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolor_d2.checkpoint.published import read_state_dict

from .files import Model, save_published


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0)
        assert type(found[name]) is torch.Tensor
        assert not found[name].requires_grad


def model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model()


def test_state_dict(tmp_path: Path) -> None:
    state = model().state_dict()
    torch.save(state, tmp_path / "state.pt")
    assert_same(read_state_dict(tmp_path / "state.pt"), state)
    torch.save({"model": state, "epoch": 3}, tmp_path / "nested.pt")
    assert_same(read_state_dict(tmp_path / "nested.pt"), state)
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_same(read_state_dict(tmp_path / "old.pt"), state)


def test_pickled_model_of_missing_code(tmp_path: Path) -> None:
    network = model().half()
    path = save_published({"model": network, "ema": None, "epoch": -1}, tmp_path / "m.pt")

    assert "models.yolo" not in sys.modules
    found = read_state_dict(path)

    assert_same(found, network.state_dict())
    assert "model.0.conv.weight" in found
    assert "model.3.bn.running_var" in found
    assert "model.grid" not in found  # not persistent
    assert found["model.0.conv.weight"].dtype is torch.float16
    assert not any(name.startswith("models") for name in sys.modules)


def test_averaged_model_is_preferred(tmp_path: Path) -> None:
    raw, averaged = model(0), model(1)
    path = save_published({"model": raw, "ema": averaged, "updates": 7}, tmp_path / "m.pt")

    assert_same(read_state_dict(path), averaged.state_dict())


def test_state_dict_of_plain_module(tmp_path: Path) -> None:
    network = model()

    assert_same(read_state_dict(save_published(network, tmp_path / "m.pt")), network.state_dict())


def test_entries_beside_the_model_are_ignored(tmp_path: Path) -> None:
    """NumPy numbers, paths and dates, which training scripts store."""
    content = {
        "model": model(),
        "best_fitness": np.float64(0.5),
        "history": np.arange(3.0),
        "opt": {"weights": Path("x.pt"), "size": [640, 640], "set": {1, 2}},
        "optimizer": torch.optim.SGD(model().parameters(), lr=0.1).state_dict(),
        "date": "2024-01-01",
    }

    assert_same(
        read_state_dict(save_published(content, tmp_path / "m.pt")), content["model"].state_dict()
    )


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, {"model": 5}, [1, 2], torch.zeros(2), {"model": {"a": "b"}}]
)
def test_files_without_weights(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt: has neither a model nor a state dict"):
        read_state_dict(tmp_path / "x.pt")


def test_damaged_files(tmp_path: Path) -> None:
    whole = save_published({"model": model()}, tmp_path / "m.pt").read_bytes()
    path = tmp_path / "x.pt"
    problems = {
        b"": "is empty",
        b"hello" * 50: "is a text file; weights are",
        whole[: len(whole) // 2]: "is cut off: copy or download it again",
        whole[100:]: "damaged, or not readable without running it",
    }
    for content, problem in problems.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"x\.pt: {problem}"):
            read_state_dict(path)
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "absent.pt")


def test_module_that_contains_itself(tmp_path: Path) -> None:
    network = model()
    network.model[3].register_module("parent", network)
    with pytest.raises(ValueError, match=r"m\.pt: its modules contain each other in a cycle"):
        read_state_dict(save_published(network, tmp_path / "m.pt"))


def test_modules_that_share_their_children(tmp_path: Path) -> None:
    """2^40 paths lead to the last one."""
    network = torch.nn.Linear(1, 1)
    for _ in range(40):
        network = torch.nn.Sequential(network, network)
    with pytest.raises(ValueError, match="contain each other"):
        read_state_dict(save_published(network, tmp_path / "m.pt"))


def test_settings_and_foreign_classes_are_read(tmp_path: Path) -> None:
    network = model()
    content = {
        "model": network,
        "opt": argparse.Namespace(size=640),
        "date": datetime.datetime(2024, 1, 1),
        "version": torch.torch_version.TorchVersion("2.1.0"),
    }
    assert_same(read_state_dict(save_published(content, tmp_path / "m.pt")), network.state_dict())
