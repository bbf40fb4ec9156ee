"""Releases from the command line."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from yolor_d2.checkpoint.provenance import describe_run
from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.checkpoint.weights import load_weights, read_weights
from yolor_d2.tools import release_weights

TOKENIZER = bytes(range(256))
PROVENANCE = describe_run(
    "VERSION: 2\n",
    argv=["--resume"],
    data={"toy": {"json_file": "0a"}},
    classes={"thing_classes": ["cat", "dog"]},
)


def network(value: float = 0.1) -> nn.Module:
    """A convolution and a batch norm with constant weights."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    for tensor in model.state_dict().values():
        tensor.fill_(value)
    return model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Raw weights are 0.1, EMA weights 0.3."""
    state = network().to(memory_format=torch.channels_last).state_dict()
    shared = state["0.bias"]
    content = {
        "iteration": 10,
        "model": {**state, "tied": shared},
        "ema": {"model": network(0.3).state_dict() | {"tied": shared}, "updates": 10},
        "optimizer": {"state": {}},
        "tokenizer": torch.tensor(list(TOKENIZER), dtype=torch.uint8),
        "provenance": PROVENANCE,
    }
    save_checkpoint(content, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def release(*arguments: Any) -> int:
    return release_weights.main([str(argument) for argument in arguments])


def test_a_release_contains_weights_and_provenance(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "w.safetensors"

    assert release(checkpoint, output) == 0

    assert capsys.readouterr().out == f"{output}: 8 ema tensors, 0.0 MB\n"
    stored = read_weights(output)
    assert stored.kind == "ema"
    assert stored.provenance == {**PROVENANCE, "steps": 10}
    assert stored.tokenizer == TOKENIZER
    model = network(0.0)
    load_weights(model, output, strict=True)
    assert all((t == torch.tensor(0.3).to(t.dtype)).all() for t in model.state_dict().values())
    subprocess.run(["sha256sum", "-c", f"{output}.sha256"], cwd=tmp_path, check=True)


def test_safetensors_alone_can_read_a_release(checkpoint: Path, tmp_path: Path) -> None:
    release(checkpoint, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        metadata = json.loads(file.metadata()["yolor_d2"])
    assert metadata["provenance"]["commit"] == PROVENANCE["commit"]
    assert metadata["provenance"]["classes"] == {"thing_classes": ["cat", "dog"]}
    assert (metadata["weights"], metadata["dtype"]) == ("ema", "fp32")


def test_raw_weights(checkpoint: Path, tmp_path: Path) -> None:
    release("--weights", "raw", checkpoint, tmp_path / "w.safetensors")
    stored = read_weights(tmp_path / "w.safetensors")
    assert stored.kind == "raw"
    assert (stored.tensors["0.weight"] == 0.1).all()


def test_fp16_converts_only_matrices(checkpoint: Path, tmp_path: Path) -> None:
    release("--dtype", "fp16", checkpoint, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        dtypes = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert dtypes.pop("0.weight") is torch.float16
    assert dtypes.pop("1.num_batches_tracked") is torch.int64
    assert set(dtypes.values()) == {torch.float32}
    model = network(0.0)
    load_weights(model, tmp_path / "w.safetensors", strict=True)
    assert (model[0].weight == torch.tensor(0.3).half().float()).all()


def test_the_same_weights_give_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    names = ("a.safetensors", "b.safetensors")
    for name in names:
        release(checkpoint, tmp_path / name)
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names}
    assert len(digests) == 1
    # A release of a release is equal to it.
    release(tmp_path / names[0], tmp_path / "c.safetensors")
    assert hashlib.sha256((tmp_path / "c.safetensors").read_bytes()).hexdigest() in digests


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pth", "w.safetensors"], "absent.pth: there is no such file"),
        ([".", "w.safetensors"], ": is a folder"),
        (["model.pth", "w.pth"], "w.pth: must end in .safetensors"),
        (["model.pth", "absent/w.safetensors"], "cannot be written: No such file or directory"),
        (["--weights", "ema", "large.pth", "w.safetensors"], "large.pth: has no ema weights"),
        (
            ["--dtype", "fp16", "large.pth", "w.safetensors"],
            "0.weight has a value too large for fp16",
        ),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    save_checkpoint({"model": {"0.weight": torch.full((1, 1), 1e5)}}, tmp_path / "large.pth")
    before = sorted(tmp_path.iterdir())
    *options, source, target = arguments

    assert release(*options, tmp_path / source, tmp_path / target) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("python -m yolor_d2.tools.release_weights: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_weights_of_another_project(tmp_path: Path) -> None:
    """A detectron2 checkpoint becomes a release without provenance."""
    torch.save({"model": network().state_dict()}, tmp_path / "x.pth")
    assert release(tmp_path / "x.pth", tmp_path / "w.safetensors") == 0
    stored = read_weights(tmp_path / "w.safetensors")
    assert (stored.kind, stored.provenance, stored.tokenizer) == ("", {}, None)
    assert (stored.tensors["0.weight"] == 0.1).all()
