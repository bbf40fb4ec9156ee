"""Conversion of published weights from the command line."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from torch import Tensor, nn

import yolor_d2
from yolor_d2.checkpoint.published import NETWORKS, convert_state_dict
from yolor_d2.checkpoint.weights import read_weights
from yolor_d2.model_zoo import get_config
from yolor_d2.tools import convert_weights

SOURCE = "yolov7-af-pan"
DFL = "model.105.dfl.conv.weight"


class Tree(nn.Module):
    """A module with buffers of given dotted names."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for path, tensor in state.items():
            *parents, name = path.split(".")
            module: nn.Module = self
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, nn.Module())
                module = module.get_submodule(parent)
            module.register_buffer(name, torch.zeros_like(tensor))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file with the published names and shapes in half precision; tensors are constant."""
    cfg = get_config("COCO/yolor_elan_pan.yaml")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in build_model(cfg).state_dict().items()}
    torch.manual_seed(0)
    state = {
        name: torch.rand(()).half().expand(shapes[ours])
        for name, ours in NETWORKS[SOURCE].names.items()
        if ours is not None
    }
    path = tmp_path / "published.pt"
    torch.save({"model": state | {DFL: torch.arange(16.0).half().view(1, 16, 1, 1)}}, path)
    return path


def convert(*arguments: Any) -> int:
    return convert_weights.main([str(argument) for argument in arguments])


def test_the_output_loads_like_any_checkpoint(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "weights.pth"

    assert convert("--source", SOURCE, published, output) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{output}: 686 entries of {SOURCE}", "license of the weights: GPL-3.0"]
    expected = convert_state_dict(torch.load(published)["model"], SOURCE)
    model = Tree(expected)
    DetectionCheckpointer(model).load(str(output))
    found = model.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published.pt", "weights.pth"]


def test_provenance_is_stored(published: Path, tmp_path: Path) -> None:
    output = tmp_path / "weights.pth"
    convert("--source", SOURCE, published, output)

    assert torch.load(output, weights_only=True)["provenance"] == {
        "source": SOURCE,
        "file": "published.pt",
        "sha256": hashlib.sha256(published.read_bytes()).hexdigest(),
        "yolor_d2": yolor_d2.__version__,
        "repository": "WongKinYiu/yolov9",
        "license": "GPL-3.0",
        "published_results": {},
    }


def test_release_has_all_that_prediction_needs(published: Path, tmp_path: Path) -> None:
    output = tmp_path / "weights.safetensors"
    assert convert(published, output) == 0  # the network is recognized

    stored = read_weights(output)
    assert stored.provenance["network"] == stored.provenance["source"] == SOURCE
    assert "yolor_elan" in stored.provenance["config"].lower()
    assert stored.tensors.keys() == read_weights(published).tensors.keys()


@pytest.mark.parametrize(
    ("source", "name", "output", "message"),
    [
        ("gelan-c", "published.pt", "w.pth", "unknown source gelan-c; known are yolov7-af, "),
        ("yolov7-af", "published.pt", "w.pth", "not a yolov7-af: unexpected model.105.cv4.0."),
        (SOURCE, "absent.pt", "w.pth", "No such file or directory"),
        (SOURCE, "damaged.pt", "w.pth", "damaged.pt: is cut off"),
        (
            SOURCE,
            "published.pt",
            "w.pkl",
            "w.pkl: must end in .safetensors, or in .pth for detectron2",
        ),
        (SOURCE, "published.pt", "absent/w.pth", "No such file or directory"),
    ],
)
def test_errors_are_one_line_and_leave_no_files(
    published: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    name: str,
    output: str,
    message: str,
) -> None:
    (tmp_path / "damaged.pt").write_bytes(published.read_bytes()[:1000])
    before = sorted(tmp_path.iterdir())

    assert convert("--source", source, tmp_path / name, tmp_path / output) == 2

    captured = capsys.readouterr()
    assert captured.err.startswith("python -m yolor_d2.tools.convert_weights: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3, 3), "stem.0.conv.weight is (3, 3) instead of (32, 3, 3, 3)"),
        (torch.zeros(32, 3, 3, 3, dtype=torch.int64), "model.0.conv.weight is torch.int64"),
        (
            torch.zeros(32, 3, 3, 3).to_sparse(),
            "model.0.conv.weight is torch.float32, torch.sparse",
        ),
    ],
)
def test_weights_of_another_shape_or_type(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tensor, message: str
) -> None:
    state = torch.load(published)["model"]
    torch.save(state | {"model.0.conv.weight": tensor}, published)

    assert convert("--source", SOURCE, published, tmp_path / "w.pth") == 2
    assert message in capsys.readouterr().err


def test_a_failure_while_writing_leaves_the_old_file(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "weights.pth"
    output.write_bytes(b"old")

    def fail(content: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)

    assert convert("--source", SOURCE, published, output) == 2
    assert output.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published.pt", "weights.pth"]
