"""Loading weights of all file formats into networks that they fit fully or partly."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from yolor_d2.checkpoint.published import convert_state_dict
from yolor_d2.checkpoint.release import StoredWeights, write_release
from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.checkpoint.weights import (
    load_weights,
    read_weights,
)
from yolor_d2.errors import CheckpointError
from yolor_d2.modeling.layers import ImplicitConv1x1

from ..modeling.factory import tiny_model
from .published.files import Model, save_published
from .published.test_networks import tiny_state


class Net(nn.Module):
    """A backbone and a head with the names of our network."""

    def __init__(self, classes: int = 3, *, implicit: bool = True, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.detection_head = nn.Module()
        self.detection_head.class_predictors = ImplicitConv1x1(4, classes, implicit=implicit)

    def forward(self, x: Tensor) -> Tensor:
        return self.detection_head.class_predictors(self.backbone(x))


HEAD = "detection_head.class_predictors"
X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def shifted(state: dict[str, Tensor], by: float) -> dict[str, Tensor]:
    return {name: t + by if t.is_floating_point() else t for name, t in state.items()}


def training_checkpoint(model: nn.Module, *, ema: bool = True) -> dict[str, Any]:
    """A checkpoint whose EMA weights are the raw weights plus one."""
    state = model.state_dict()
    return {
        "iteration": 1,
        "model": state,
        **({"ema": {"model": shifted(state, 1.0), "updates": 1}} if ema else {}),
        "tokenizer": torch.tensor([0, 7, 255], dtype=torch.uint8),
        "provenance": {"config": "VERSION: 2\n", "classes": {"thing_classes": ["cat"]}},
    }


def assert_has(model: nn.Module, expected: dict[str, Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, atol=0, rtol=0)


Writer = Callable[[nn.Module, Path], Any]
FILES: dict[str, tuple[str, str, Writer]] = {
    "our checkpoint": ("x.pth", "raw", lambda m, p: save_checkpoint({"model": m.state_dict()}, p)),
    "our release": (
        "x.safetensors",
        "raw",
        lambda m, p: write_release(StoredWeights(dict(m.state_dict()), kind="raw"), p),
    ),
    "a bare safetensors file": ("x.safetensors", "", lambda m, p: save_file(m.state_dict(), p)),
    "a state dict": ("x.pth", "", lambda m, p: torch.save(m.state_dict(), p)),
    "of parallel training": (
        "x.pt",
        "",
        lambda m, p: torch.save({f"module.{k}": v for k, v in m.state_dict().items()}, p),
    ),
    "of detectron2": (
        "x.pth",
        "",
        lambda m, p: torch.save({"model": m.state_dict(), "iteration": 4, "__author__": "us"}, p),
    ),
    "in half precision": (
        "x.pth",
        "",
        lambda m, p: torch.save({k: v.clone() for k, v in m.state_dict().items()}, p),
    ),
}


@pytest.mark.parametrize(("name", "kind", "write"), FILES.values(), ids=FILES)
def test_every_kind_of_file(tmp_path: Path, name: str, kind: str, write: Writer) -> None:
    source, model = Net(seed=1), Net()
    write(source, tmp_path / name)

    report = load_weights(model, tmp_path / name, strict=True)

    assert_has(model, source.state_dict())
    number = len(source.state_dict())
    assert (report.kind, report.loaded, report.mismatched) == (kind, number, [])
    assert str(report) == f"{tmp_path / name}: {number} tensors loaded" + f" ({kind})" * bool(kind)


def test_half_precision_is_converted_before_averaging(tmp_path: Path) -> None:
    """A factor folded into a half-precision weight would be rounded twice."""
    torch.save({k: v.half() for k, v in Net(seed=1).state_dict().items()}, tmp_path / "x.pth")
    stored = read_weights(tmp_path / "x.pth").tensors
    assert {t.dtype for t in stored.values()} == {
        torch.float32
    }  # the counter was also in half precision
    load_weights(Net(implicit=False), tmp_path / "x.pth", strict=True)


@pytest.mark.parametrize(("prefer", "shift"), [("ema", 1.0), ("raw", 0.0)])
def test_ema_or_raw(tmp_path: Path, prefer: str, shift: float) -> None:
    source, model = Net(seed=1), Net()
    save_checkpoint(training_checkpoint(source), tmp_path / "x.pth")

    report = load_weights(model, tmp_path / "x.pth", prefer=prefer, strict=True)

    assert_has(model, shifted(source.state_dict(), shift))
    assert report.kind == prefer
    assert f"tensors loaded ({prefer})" in str(report)


def test_raw_where_there_is_no_ema(tmp_path: Path) -> None:
    save_checkpoint(training_checkpoint(Net(), ema=False), tmp_path / "x.pth")
    assert load_weights(Net(), tmp_path / "x.pth").kind == "raw"
    with pytest.raises(ValueError, match=r"TEST\.WEIGHTS must be one of ema, raw, not EMA"):
        load_weights(Net(), tmp_path / "x.pth", prefer="EMA")


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("loading", [True, False])
def test_other_classes_are_listed(tmp_path: Path, saved: bool, loading: bool) -> None:
    """The new head keeps its initial values, including vectors."""
    source, model = Net(3, implicit=saved, seed=1), Net(5, implicit=loading)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save(source.state_dict(), tmp_path / "x.pth")

    report = load_weights(model, tmp_path / "x.pth")

    trunk = {k: v for k, v in source.state_dict().items() if k.startswith("backbone")}
    assert_has(model, initial | trunk)
    assert (report.loaded, report.missing, report.unexpected) == (len(trunk), [], [])
    assert (f"{HEAD}.weight", (3, 4, 1, 1), (5, 4, 1, 1)) in report.mismatched
    lines = str(report).splitlines()
    assert re.fullmatch(r"left as initialized: other shape +file +network", lines[1])
    assert lines[3].split(maxsplit=1)[0] == f"{HEAD}.weight"
    assert "(3, 4, 1, 1)  (5, 4, 1, 1)" in lines[3]


@pytest.mark.parametrize(("saved", "loading"), [(True, False), (False, True)])
def test_with_and_without_implicit_vectors(tmp_path: Path, saved: bool, loading: bool) -> None:
    """Weights convert between them without changing the function."""
    source, model = Net(implicit=saved, seed=1).eval(), Net(implicit=loading).eval()
    torch.save(source.state_dict(), tmp_path / "x.pth")

    report = load_weights(model, tmp_path / "x.pth", strict=True)

    assert (report.missing, report.unexpected) == ([], [])
    torch.testing.assert_close(model(X), source(X))


def test_missing_and_unexpected_tensors(tmp_path: Path) -> None:
    state = dict(Net().state_dict())
    del state["backbone.0.bias"]
    torch.save(state | {f"extra.{n}": torch.zeros(1) for n in range(8)}, tmp_path / "x.pth")

    report = load_weights(Net(), tmp_path / "x.pth")

    assert report.missing == ["backbone.0.bias"]
    assert report.unexpected == [f"extra.{n}" for n in range(8)]
    assert str(report).splitlines()[1:] == [
        "left as initialized: not in the file (1): backbone.0.bias",
        "not used: not in the network (8): extra.0, extra.1, extra.2, extra.3, extra.4, extra.5 "
        "and 2 more",
    ]


def test_batch_norm_counters_can_be_missing(tmp_path: Path) -> None:
    state = {k: v for k, v in Net().state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "x.pth")
    assert load_weights(Net(), tmp_path / "x.pth", strict=True).missing == []


class TestStrict:
    def test_another_number_of_classes(self, tmp_path: Path) -> None:
        torch.save(Net(3).state_dict(), tmp_path / "x.pth")
        message = (
            f"{tmp_path}/x.pth: {HEAD}.weight is (3, 4, 1, 1), the network's is (5, 4, 1, 1) and 2 "
            "more differ; check MODEL.DETECTION_HEAD.NUM_CLASSES"
        )
        with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
            load_weights(Net(5), tmp_path / "x.pth", strict=True)

    def test_a_task_that_the_file_lacks(self, tmp_path: Path) -> None:
        state = {k: v for k, v in Net().state_dict().items() if k.startswith("backbone")}
        torch.save(state, tmp_path / "x.pth")
        message = rf"x\.pth: lacks {HEAD}\.weight, .* check MODEL\.YOLOR\.TASKS$"
        with pytest.raises(CheckpointError, match=message):
            load_weights(Net(), tmp_path / "x.pth", strict=True)

    def test_a_layer_that_the_file_lacks(self, tmp_path: Path) -> None:
        state = {k: v for k, v in Net().state_dict().items() if not k.startswith("backbone.0")}
        torch.save(state, tmp_path / "x.pth")
        message = r"lacks backbone\.0\.weight, backbone\.0\.bias; check MODEL\.YOLOR_ELAN\.WIDTH"
        with pytest.raises(CheckpointError, match=message):
            load_weights(Net(), tmp_path / "x.pth", strict=True)

    @pytest.mark.parametrize(
        ("overrides", "keys"),
        [
            (["MODEL.DETECTION_HEAD.NUM_CLASSES", 12], "MODEL.DETECTION_HEAD.NUM_CLASSES"),
            (["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 20], "MODEL.SEM_SEG_HEAD.NUM_CLASSES"),
            (["MODEL.MASK_HEAD.NUM_PROTOTYPES", 16], "MODEL.MASK_HEAD.NUM_PROTOTYPES"),
            (["MODEL.DETECTION_HEAD.REG_MAX", 8], "MODEL.DETECTION_HEAD.REG_MAX"),
            (
                ["TOKENIZER.VOCAB_SIZE", 60],
                "MODEL.CAPTION_HEAD.VOCAB_SIZE and TOKENIZER.MODEL",
            ),
        ],
    )
    def test_the_key_to_check(self, full_size: Path, overrides: list[Any], keys: str) -> None:
        model = tiny_model(("detection", "mask", "semantic", "caption"), *overrides)
        with pytest.raises(CheckpointError, match=f"; check {re.escape(keys)}$"):
            load_weights(model, full_size, strict=True)

    def test_fewer_tasks_are_a_part(self, full_size: Path) -> None:
        report = load_weights(tiny_model(("detection",)), full_size, strict=True)
        assert any(name.startswith("caption_head.") for name in report.unexpected)


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network of ours."""
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    save_checkpoint(training_checkpoint(tiny_model(seed=1)), path)
    return path


def test_our_network(full_size: Path) -> None:
    source, model = tiny_model(seed=1), tiny_model()
    load_weights(model, full_size, prefer="raw", strict=True)
    assert_has(model, source.state_dict())


def test_file_of_another_network(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: no tensor fits the network$"):
        load_weights(Net(), tmp_path / "x.pth")


def test_network_of_another_size(tmp_path: Path) -> None:
    """Matching names with other shapes raise another error."""
    backbone = nn.ModuleDict({"backbone": nn.Sequential(nn.Conv2d(3, 8, 1))})
    torch.save(backbone.state_dict(), tmp_path / "x.pth")
    message = r"backbone\.0\.weight is .* and 1 more differ; check MODEL\.YOLOR_ELAN\.WIDTH"
    with pytest.raises(CheckpointError, match=message):
        load_weights(Net(), tmp_path / "x.pth")


@pytest.mark.parametrize("source", ["yolov7-af", "yolov7-af-seg", "yolov7-af-pan"])
def test_published_files(tmp_path: Path, source: str) -> None:
    """The network is recognized by its names."""
    state = tiny_state(source)
    torch.save({"model": state}, tmp_path / "x.pt")
    found = read_weights(tmp_path / "x.pt").tensors
    expected = convert_state_dict(state, source)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_foreign_pickled_models(tmp_path: Path) -> None:
    """They are read without running code, and reported if unknown."""
    path = save_published({"model": Model()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: not a yolov7-af: missing model\.1\."):
        load_weights(Net(), path)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty: copy or download it again"),
        (b"<!DOCTYPE html>" * 9, "is a web page"),
        (b"\0" * 999, "damaged, or no"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}/{name}: {problem}"):
        load_weights(Net(), tmp_path / name)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_damaged_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FILES["our checkpoint" if name.endswith("pth") else "our release"][2](Net(), path)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged, its SHA-256 is not that in "):
        load_weights(Net(), path)


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pth: there is no such file$"):
        load_weights(Net(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}: is a folder$"):
        load_weights(Net(), tmp_path)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_tokenizer_and_provenance_are_read(tmp_path: Path, name: str) -> None:
    save_checkpoint(training_checkpoint(Net()), tmp_path / "x.pth")
    write_release(read_weights(tmp_path / "x.pth"), tmp_path / "x.safetensors")

    stored = read_weights(tmp_path / name)
    assert stored.tokenizer == bytes([0, 7, 255])
    assert stored.provenance["config"] == "VERSION: 2\n"
    assert stored.provenance["classes"] == {"thing_classes": ["cat"]}


def test_file_of_weights_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(Net().state_dict(), tmp_path / "x.pth")
    save_file(Net().state_dict(), tmp_path / "x.safetensors")
    with caplog.at_level(logging.DEBUG):
        for name in ("x.pth", "x.safetensors"):
            stored = read_weights(tmp_path / name)
            assert stored.tokenizer is None
            assert stored.provenance == {}
    assert caplog.text == ""
