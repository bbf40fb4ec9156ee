"""Files of published networks need no configuration."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from torch import Tensor

from yolor_d2 import Predictor
from yolor_d2.checkpoint.published import NETWORKS
from yolor_d2.checkpoint.weights import load_weights
from yolor_d2.model_zoo import get_config
from yolor_d2.tools import convert_weights, predict

from ..checkpoint.published.files import Model, published_code

SOURCE = "v9-t"  # the smallest


def published_state(classes: int = 80) -> dict[str, Tensor]:
    """A v9-t with random weights, under the published names."""
    cfg = get_config(NETWORKS[SOURCE].config)
    cfg.MODEL.DEVICE, cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = "cpu", classes
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    torch.manual_seed(0)
    model = build_model(cfg)
    for predictor in model.detection_head.class_predictors.values():
        torch.nn.init.zeros_(predictor.bias)  # so that scores are high
    weights = model.state_dict()
    names = NETWORKS[SOURCE].names.items()
    bins = torch.arange(16.0).view(1, 16, 1, 1, 1)
    return {name: bins if ours is None else weights[ours] for name, ours in names}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.jpg"
    pixels = np.random.RandomState(0).randint(256, size=(48, 64, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def save(content: Any, folder: Path) -> Path:
    path = folder / "v9-t.pt"
    torch.save(content, path)
    return path


def lightning(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "state_dict": {f"model.model.{name}": tensor for name, tensor in state.items()},
        "pytorch-lightning_version": "2.4.0",
        "epoch": 3,
    }


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lightning,
        lambda state: {"model": state, "ema": None},
        lambda state: {name: tensor.half() for name, tensor in state.items()},
    ],
    ids=["state dict", "Lightning", "dictionary", "half precision"],
)
def test_predict_needs_nothing_but_the_file(tmp_path: Path, image: Path, wrap: Any) -> None:
    path = save(wrap(published_state()), tmp_path)
    predictor = Predictor(path, device="cpu", opts=["INPUT.TEST_SIZE", 64])
    assert predictor.metadata is MetadataCatalog.get("coco_2017_train_multitask")
    prediction = predictor(str(image))
    assert prediction.instances is not None
    assert len(prediction.instances) == 300  # random weights, no score threshold


def test_command_line(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(published_state(), tmp_path)
    output = tmp_path / "seen"
    arguments = ["--weights", path, "--input", image, "--output", output, "--device", "cpu"]
    assert predict.main([str(each) for each in arguments]) == 0
    assert (output / "photo.jpg").is_file()

    release = tmp_path / "v9-t.safetensors"
    assert convert_weights.main([str(path), str(release)]) == 0
    assert "license of the weights: MIT" in capsys.readouterr().out
    before, after = (
        Predictor(each, device="cpu", opts=["INPUT.TEST_SIZE", 64])(str(image)).instances
        for each in (path, release)
    )
    assert torch.equal(before.pred_boxes.tensor, after.pred_boxes.tensor)


def test_other_classes_are_numbered_or_named(tmp_path: Path) -> None:
    path = save(published_state(classes=3), tmp_path)
    assert classes_of(path) == ["class 0", "class 1", "class 2"]
    assert classes_of(release_of(path)) == ["class 0", "class 1", "class 2"]

    save_model(path, published_state(classes=3), names={0: "cat", 1: "dog", 2: "cow"})
    assert classes_of(path) == ["cat", "dog", "cow"]
    assert classes_of(release_of(path)) == ["cat", "dog", "cow"]


def test_names_of_coco_are_those_of_its_data_sets(tmp_path: Path) -> None:
    """So that the network keeps what COCO has beside names of objects: stuff, ids, colors."""
    path = tmp_path / "v9-t.pt"
    coco = MetadataCatalog.get("coco_2017_train_multitask")
    save_model(path, published_state(), names=dict(enumerate(coco.thing_classes)))
    for file in (path, release_of(path)):
        assert Predictor(file, device="cpu").metadata is coco


def classes_of(path: Path) -> list[str]:
    return Predictor(path, device="cpu").metadata.thing_classes


def release_of(path: Path) -> Path:
    release = path.with_suffix(".safetensors")
    assert convert_weights.main([str(path), str(release)]) == 0
    return release


def save_model(path: Path, state: dict[str, Tensor], *, names: dict[int, str]) -> None:
    """Save a pickled model with class names."""
    with published_code():
        network = Model()
        network.names = names
        network._modules = torch.nn.ModuleDict({"holder": torch.nn.Module()})._modules
        for name, tensor in state.items():
            register(network, name, tensor)
        torch.save({"model": network, "ema": None}, path)


def register(network: torch.nn.Module, path: str, tensor: Tensor) -> None:
    """Register a tensor under a dotted name, in modules made as needed."""
    *parents, name = path.split(".")
    module = network
    for parent in parents:
        if parent not in module._modules:
            module.add_module(parent, torch.nn.Module())
        module = module.get_submodule(parent)
    module.register_buffer(name, tensor)


def test_training_starts_from_the_file_with_other_classes(tmp_path: Path) -> None:
    path = save(published_state(), tmp_path)
    cfg = get_config(NETWORKS[SOURCE].config)
    cfg.MODEL.DEVICE, cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = "cpu", 70
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    report = load_weights(build_model(cfg), path)
    assert {mismatch.name.split(".")[1] for mismatch in report.mismatched} == {"class_predictors"}
    assert not report.missing


def test_trunk_alone_in_another_detector(tmp_path: Path) -> None:
    path = save(published_state(), tmp_path)
    cfg = get_config("reuse/retinanet_yolor_elan_fpn.yaml")
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_gelan_fpn_backbone"
    cfg.MODEL.DEVICE, cfg.MODEL.GELAN.SIZE = "cpu", "t"
    report = load_weights(build_model(cfg), path)
    missing = {name.rpartition(".")[0] for name in report.missing}
    assert not any(name.startswith("backbone.bottom_up") for name in missing)
    assert report.loaded > 200
