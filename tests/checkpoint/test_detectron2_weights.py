"""Weights in detectron2's *.pkl files."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_resnet_backbone
from detectron2.modeling.backbone import BasicStem, BottleneckBlock, ResNet
from torch import nn

from yolor_d2.checkpoint import weights
from yolor_d2.checkpoint.weights import load_weights
from yolor_d2.engine.trainer import Trainer
from yolor_d2.errors import CheckpointError
from yolor_d2.model_zoo import get_config
from yolor_d2.modeling import PAN

from ..small_runs import SMALL

FRESH = ("running_mean", "running_var")


def narrow_resnet() -> ResNet:
    """A ResNet with one bottleneck in each stage."""
    norm = "FrozenBN"
    stages = [
        ResNet.make_stage(
            BottleneckBlock,
            1,
            in_channels=4 * 2**number,
            out_channels=8 * 2**number,
            bottleneck_channels=4,
            stride_per_block=[1 + (number > 0)],
            norm=norm,
        )
        for number in range(4)
    ]
    stem = BasicStem(out_channels=4, norm=norm)
    return ResNet(stem, stages, out_features=["res3", "res4", "res5"])


class Net(nn.Module):
    """A ResNet below our neck, with the names of our network."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = PAN(bottom_up=narrow_resnet(), width=0.125, depth=0.25)


def arrays(resnet: Backbone) -> dict[str, np.ndarray]:
    """Its weights, with other constants of batch norms."""
    named = {name: t.numpy() for name, t in resnet.state_dict().items() if t.is_floating_point()}
    return {n: a + np.float32(0.01) if "norm" in n else a for n, a in named.items()}


def as_caffe2(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names of Caffe2's ImageNet weights, whose batch norms are folded into scale and bias."""
    parts = {
        "shortcut": "branch1",
        "conv1": "branch2a",
        "conv2": "branch2b",
        "conv3": "branch2c",
        "norm.weight": "bn_s",
        "norm.bias": "bn_b",
    }
    result = {}
    for name, array in named.items():
        if name.endswith(FRESH):
            continue
        is_stem = name.startswith("stem.")
        name = name.replace("stem.conv1.norm.", "res_conv1_norm.").removeprefix("stem.")
        for ours, theirs in parts.items():
            if not is_stem or ours.startswith("norm"):
                name = name.replace(ours, theirs)
        name = name.replace("norm.weight", "bn_s").replace("norm.bias", "bn_b")
        result[name.replace(".weight", ".w").replace(".bias", ".b").replace(".", "_")] = array
    return result


def written(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


CONTENTS = {
    "Caffe2": lambda named: as_caffe2(named) | {"pred_w": np.ones((4, 4), np.float32)},
    "Caffe2's detectors": lambda named: {
        "blobs": as_caffe2(named) | {"lr": 0.1, "conv1_w_momentum": np.ones(3)}
    },
    "detectron2": lambda named: {
        "model": OrderedDict(named),
        "__author__": "torchvision",
        "matching_heuristics": True,
    },
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_imagenet_weights_fit_the_backbone_below_our_neck(tmp_path: Path, kind: str) -> None:
    named = arrays(narrow_resnet())
    path = written(tmp_path / "R-50.pkl", CONTENTS[kind](named))
    net = Net()
    before = {name: t.clone() for name, t in net.state_dict().items()}

    report = load_weights(net, path)

    state = net.state_dict()
    checked = 0
    for name, array in named.items():
        if kind == "detectron2" or not name.endswith(FRESH):
            found = state[f"backbone.bottom_up.{name}"]
            torch.testing.assert_close(found, torch.from_numpy(array), atol=0, rtol=0)
            checked += 1
    assert checked > 40
    assert report.loaded == checked
    for name, tensor in before.items():
        if not name.startswith("backbone.bottom_up."):
            torch.testing.assert_close(state[name], tensor, atol=0, rtol=0)
    assert all(name.startswith("backbone.") for name in report.missing)
    assert report.unexpected == (["linear.weight"] if kind == "Caffe2" else [])


def test_a_network_of_detectron2_with_equal_names(tmp_path: Path) -> None:
    net = Net()
    state = {name: t.numpy() + 1 for name, t in net.state_dict().items() if t.is_floating_point()}
    path = written(tmp_path / "model.pkl", {"model": state, "__author__": "us"})

    assert load_weights(net, path).loaded == len(state)
    name = "backbone.spp.shortcut.conv.weight"
    assert torch.equal(net.state_dict()[name], torch.from_numpy(state[name]))


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("hostile",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1_w": Hostile()}, r"\(names \w+\.mkdir\)"),
        ({"model": {"a": torch.zeros(1)}, "__author__": "us"}, "names torch"),
        ([1], "has no weights"),
        ({"conv1_w": 1.0}, "has no weights"),
        ({"model": 1, "__author__": "us"}, "has no weights"),
    ],
)
def test_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "x.pkl", content)

    with pytest.raises(CheckpointError, match=message) as error:
        load_weights(Net(), path)

    assert str(path) in str(error.value)
    assert not (tmp_path / "hostile").exists()


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": np.zeros(100)})[:-20])
    with pytest.raises(CheckpointError, match=r"x\.pkl: damaged"):
        load_weights(Net(), path)
    written(path, {"other_w": np.zeros((2, 2), np.float32)})
    with pytest.raises(CheckpointError, match="no tensor fits the network"):
        load_weights(Net(), path)


def test_a_failing_download_is_one_line() -> None:
    with pytest.raises(CheckpointError, match=r"^detectron2://nowhere\.pkl: cannot be downloaded"):
        load_weights(Net(), "detectron2://nowhere.pkl")


def test_a_run_starts_from_imagenet_weights(
    toy_sets: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = get_config("COCO/resnet50_mtl.yaml")
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
    named = arrays(build_resnet_backbone(cfg, ShapeSpec(channels=3)))
    address = cfg.MODEL.WEIGHTS
    path = written(tmp_path / "R-50.pkl", as_caffe2(named))
    monkeypatch.setattr(weights.PathManager, "get_local_path", {address: str(path)}.__getitem__)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = [toy_sets[0]], [toy_sets[1]]
    small = ["MODEL.DEVICE", "cpu", "MODEL.YOLOR_ELAN.WIDTH", 0.125, "TOKENIZER.VOCAB_SIZE", 60]
    cfg.merge_from_list([*SMALL, *small, "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2])
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path / "run"), "TEST.BEST.METRIC", ""])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    weight = dict(trainer.model.named_parameters())
    stem = "backbone.bottom_up.stem.conv1.weight"
    assert torch.equal(weight[stem], torch.from_numpy(named["stem.conv1.weight"]))

    trainer.train()

    assert trainer.finished == 2
    assert torch.equal(weight[stem], torch.from_numpy(named["stem.conv1.weight"]))  # frozen
