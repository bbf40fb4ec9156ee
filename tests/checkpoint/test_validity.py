"""Weight files with other content: one line that names the file, without memory or code."""

import errno
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from yolor_d2.checkpoint.saving import load_checkpoint
from yolor_d2.checkpoint.weights import read_weights
from yolor_d2.errors import CheckpointError, DamagedError

VALUES: dict[str, Callable[[], Any]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    "without data": lambda: torch.zeros(3, device="meta"),
    "endless": lambda: torch.zeros((), dtype=torch.half).expand(10**12),
    "text": lambda: "x",
}


def checkpoint(**content: Any) -> dict[str, Any]:
    return {"format": 1, "model": {"a.weight": torch.zeros(2, 2)}, **content}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", ["weights.pth", "state.pt"])
def test_values_that_are_no_weights(tmp_path: Path, name: str, value: Callable[[], Any]) -> None:
    path = tmp_path / name
    tensors = {"a.weight": value()}
    torch.save(checkpoint(model=tensors) if name == "weights.pth" else tensors, path)
    with pytest.raises(CheckpointError) as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content",
    [
        {"model": [1]},
        {"model": None},
        {"ema": [1]},
        {"ema": {}},
        {"tokenizer": "x"},
        {"provenance": [1]},
        {"provenance": {"config": 5}},
        {"provenance": {"classes": "x"}},
        {"provenance": {"classes": {"thing_classes": [1]}}},
        {"provenance": {"classes": {"thing_classes": ["a"]}, "class_ids": {"thing_classes": []}}},
        {"provenance": {"class_ids": {"thing_classes": [2**70]}}},
        {"provenance": {"data": [[]]}},
        {"provenance": {"network": []}},
        {"provenance": {"argv": [1]}},
        {"provenance": {"data": {"a": {"images": {"files": 3}}}}},
        {"history": [{"AP": 1.0}]},
        {"history": [{"steps": 1, "AP": "x"}]},
        {"iteration": "x"},
        {"iteration": torch.zeros(3)},
    ],
    ids=str,
)
def test_checkpoints_of_other_content(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "weights.pth"
    torch.save(checkpoint(**content), path)
    with pytest.raises(CheckpointError, match=r"weights\.pth: "):
        read_weights(path)


def test_compressed_files_are_not_expanded(tmp_path: Path) -> None:
    stored, path = tmp_path / "stored.pth", tmp_path / "weights.pth"
    torch.save(checkpoint(), stored)
    with (
        zipfile.ZipFile(stored) as before,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for info in before.infolist():
            after.writestr(info.filename, before.read(info))
    with pytest.raises(CheckpointError, match="a zip file that PyTorch did not write"):
        read_weights(path)
    with pytest.raises(DamagedError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["weights.pth", "state.pt"])
def test_entries_that_are_marked_as_folders(tmp_path: Path, name: str) -> None:
    """PyTorch returns uninitialized memory for them; one flipped bit is the mark."""
    path = tmp_path / name
    content = checkpoint()
    torch.save(content if name == "weights.pth" else content["model"], path)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"/data/0"))
    data[entry + 38] ^= 0x10  # its attributes
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{path}: damaged"):
        read_weights(path)


def test_the_memo_of_a_pickle_does_not_take_memory(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    content = pickle.dumps({"model": {}, "__author__": "a"}, 2)
    path.write_bytes(content[:-1] + b"r\xff\xff\xff\x7f.")
    with pytest.raises(CheckpointError, match=r"weights\.pkl: damaged"):
        read_weights(path)


def test_errors_without_a_name_are_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeking in a damaged archive fails without the name of a file."""
    path = tmp_path / "state.pt"
    torch.save({"a": Tensor([1.0])}, path)

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(CheckpointError, match=r"state\.pt: damaged"):
        read_weights(path)
