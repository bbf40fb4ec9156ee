"""Error messages say what a file is that is no file of weights."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from yolor_d2.checkpoint.file_kinds import what_it_is
from yolor_d2.checkpoint.weights import read_weights
from yolor_d2.errors import CheckpointError


def onnx_graph() -> bytes:
    """The first fields of a graph as PyTorch writes it: version of the format, producer."""
    return b"\x08\x0a\x12\x07pytorch\x1a\x052.9.1:\x00\xfe" + bytes(range(256))


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "content")
    return file.getvalue()


def torchscript() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1)), file)
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors", ".onnx"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"a note\n", "is a text file"),
        ("é".encode() * 4000, "is a text file"),  # a character is cut at the end of what is read
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b'<?xml version="1.0"?>\n<net name="vision">', "is an OpenVINO graph"),
        (b"\x89PNG\r\n", "is an image"),
        (zipped("a.txt"), "is a zip file without weights"),
        (zipped("a.txt")[:-9], "is cut off"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, what: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"^{path}: {what}.*[:;] "):
        read_weights(path)


def test_exported_networks(tmp_path: Path) -> None:
    for name, content, what in (
        ("x.onnx", onnx_graph(), "an ONNX graph"),
        ("x.pth", onnx_graph(), "an ONNX graph"),
        ("x.pt", torchscript(), "a TorchScript program"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"is {what}.*that it was exported from"):
            read_weights(path)


def test_weights_are_nothing_else(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "x.pth")
    assert what_it_is(tmp_path / "x.pth") == ""
