"""The configuration chosen for labeled data."""

from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from yolor_d2.checkpoint.weights import load_weights
from yolor_d2.data.catalog.records import read_records
from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.engine import batch_size, own_data
from yolor_d2.engine.own_data import SIZES, choose_config, describe_config, shortages
from yolor_d2.engine.trainer import Trainer
from yolor_d2.model_zoo import load_config
from yolor_d2.modeling import YOLOR
from yolor_d2.modeling.statistics import build_network
from yolor_d2.tools.train import network_of

from ..data.formats.conftest import Make, make
from ..inference.test_published import published_state

__all__ = ["make"]  # a fixture


@pytest.fixture(autouse=True)
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "best_device", lambda: "cpu")


def choose(root: Path, **wishes: object) -> CfgNode:
    return choose_config(register_own_data(str(root)), output_dir=Path("out"), **wishes)


def test_tasks_and_classes_are_those_of_the_data(make: Make) -> None:
    cfg = choose(make("labelme"))
    assert cfg.MODEL.YOLOR.TASKS == ["detection", "mask"]
    assert cfg.MODEL.DETECTION_HEAD.NUM_CLASSES == 2
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("own_train",), ("own_val",))
    cfg = choose(make("semantic_png"))
    assert (cfg.MODEL.YOLOR.TASKS, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (["semantic"], 3)
    assert choose(make("coco_folders"), tasks=["caption"]).MODEL.YOLOR.TASKS == ["caption"]


def test_classes_of_several_data_sets(make: Make) -> None:
    labels = ["DATASETS.LABELED_CLASSES", [["own_train", ["ball"]]]]
    cfg = choose(
        make("yolo"), overrides=["DATASETS.THING_CLASSES", ["car", "box", "ball"], *labels]
    )
    assert cfg.MODEL.DETECTION_HEAD.NUM_CLASSES == 3
    assert read_records("own_train")[0]["labeled_classes"] == (False, False, True)
    assert read_records("own_val")[0]["labeled_classes"] == (False, True, True)


def test_wrong_tasks(make: Make) -> None:
    root = make("labelme")
    with pytest.raises(ValueError, match=r"--tasks caption: labelme has no such labels; it has de"):
        choose(root, tasks=["detection", "caption"])
    with pytest.raises(ValueError, match='has "mask", which needs "detection"'):
        choose(root, tasks=["mask"])
    for file in root.glob("*.json"):
        file.write_text('{"shapes": []}')
    with pytest.raises(ValueError, match="have no objects, maps or captions"):
        choose(root)


def test_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make("yolo")  # 6 images for training
    assert choose(root, epochs=50).SOLVER.MAX_ITER == 50
    assert choose(root).SOLVER.MAX_ITER == own_data.MOST_EPOCHS
    monkeypatch.setattr(own_data, "seconds_per_step", lambda cfg: 0.5)
    cfg = choose(root, minutes=10)
    assert cfg.SOLVER.MAX_ITER == 960
    assert cfg.SOLVER.WARMUP_ITERS == 96
    assert describe_config(cfg, 6) == (
        "detection on cpu: 960 steps of 6 images (960 epochs), 64 pixels"
    )
    assert choose(root, minutes=0.001).SOLVER.MAX_ITER == own_data.FEWEST_STEPS


def test_overrides_of_the_length(make: Make) -> None:
    """What is chosen from the number of steps follows from the overrides."""
    root = make("yolo")
    cfg = choose(root, epochs=50, overrides=["SOLVER.IMS_PER_BATCH", 3, "SOLVER.ACCUM_STEPS", 2])
    assert cfg.SOLVER.MAX_ITER == 50
    cfg = choose(root, epochs=50, overrides=["SOLVER.ACCUM_STEPS", 2])
    assert cfg.SOLVER.MAX_ITER == 25
    assert "25 steps of 12 images (50 epochs)" in describe_config(cfg, 6)
    cfg = choose(root, epochs=500, overrides=["SOLVER.MAX_ITER", 40, "SOLVER.WARMUP_ITERS", 7])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD) == (40, 7, 40)
    assert cfg.INPUT.CLOSE_MOSAIC_ITERS == 8


def test_batch(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of steps follows from it."""
    root = make("coco_folders")  # 6 images for training, with captions
    for batch, expected in ((None, 6), (2, 2), (0, 6)):
        cfg = choose(root, epochs=4, batch=batch)
        assert (expected, expected) == (cfg.SOLVER.IMS_PER_BATCH, cfg.TEST.BATCH_SIZE)
        assert 4 * 6 // expected == cfg.SOLVER.MAX_ITER
    monkeypatch.setattr(batch_size, "has_own_memory", lambda device: True)
    monkeypatch.setattr(batch_size.TrialStep, "__call__", lambda trial, size: size < 5)
    cfg = choose(root, epochs=4, batch=0, overrides=["MODEL.YOLOR.TASKS", ["detection"]])
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER) == (4, 6)
    with pytest.raises(ValueError, match=r"instead of SOLVER\.IMS_PER_BATCH 0, use --batch auto"):
        choose(root, overrides=["SOLVER.IMS_PER_BATCH", "0"])


def test_optimizer(make: Make) -> None:
    """Muon for random weights, unless the user says otherwise."""
    root = make("yolo")
    solver = choose(root).SOLVER
    assert (solver.OPTIMIZER, solver.MOMENTUM, solver.BASE_LR) == ("MUON", 0.95, 0.003)
    assert choose(root, overrides=["SOLVER.BASE_LR", 0.002]).SOLVER.OPTIMIZER == "MUON"
    for overrides in (["SOLVER.OPTIMIZER", "AdamW"], ["MODEL.WEIGHTS", "v9-s.pt"]):
        solver = choose(root, overrides=overrides).SOLVER
        assert (solver.OPTIMIZER, solver.MOMENTUM, solver.BASE_LR) == ("AdamW", 0.9, 0.001)


def test_network_of_weights(make: Make) -> None:
    """The network is that of the file; only layers of classes are new."""
    torch.save(published_state(classes=7), "v9-t.pt")
    cfg = choose(make("yolo_polygons"), network=network_of("v9-t.pt"), epochs=1)
    assert cfg.MODEL.BACKBONE.NAME == "build_gelan_pan_backbone"
    assert (cfg.MODEL.GELAN.SIZE, cfg.MODEL.WEIGHTS) == ("t", "v9-t.pt")
    assert (cfg.SOLVER.OPTIMIZER, cfg.MODEL.DETECTION_HEAD.NUM_CLASSES) == ("AdamW", 2)
    assert cfg.MODEL.YOLOR.TASKS == ["detection", "mask"]
    model = build_network_of(cfg)
    report = load_weights(model, "v9-t.pt")
    heads = {name.split(".")[0] for name in report.missing}
    assert heads == {"mask_head"}
    assert all("class_predictors" in mismatch.name for mismatch in report.mismatched)
    assert not report.unexpected


def test_network_of_a_checkpoint(make: Make) -> None:
    sizes = ["MODEL.YOLOR_ELAN.WIDTH", 0.125, "MODEL.YOLOR_ELAN.DEPTH", 0.25, "MODEL.MASK_ON", True]
    cfg = choose(make("yolo"), epochs=1, overrides=[*sizes, "DATALOADER.NUM_WORKERS", 0])
    Trainer(cfg).train()
    weights = "out/model_final.pth"
    tuned = choose(make("yolo_polygons"), network=network_of(weights))
    assert tuned.MODEL.YOLOR_ELAN.WIDTH == 0.125
    assert weights == tuned.MODEL.WEIGHTS
    assert tuned.DATASETS.DATA.endswith("yolo_polygons")
    report = load_weights(build_network_of(tuned), weights)
    assert not report.mismatched
    assert not report.unexpected


def build_network_of(cfg: CfgNode) -> YOLOR:
    Path("tuned.yaml").write_text(cfg.dump())
    return build_network("tuned.yaml", [])


def test_shortages(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = register_own_data(str(make("yolo")))  # 6 images of 2 classes for training
    cfg = choose_config(found, output_dir=Path("out"), epochs=9)
    (line,) = shortages(cfg, found)
    assert "6 of 400 images, 9 of 2,000 steps, 9 of 10 epochs that random weights need" in line
    cfg.SOLVER.MAX_ITER = own_data.NEEDED_STEPS
    (line,) = shortages(cfg, found)
    assert line.startswith("expect little of photos: 6 of 400 images that")
    monkeypatch.setattr(own_data, "NEEDED_IMAGES", 3)
    assert shortages(cfg, found) == []
    cfg.SOLVER.MAX_ITER, cfg.MODEL.WEIGHTS = 1, "weights.pth"
    assert shortages(cfg, found) == []


def test_trainer_and_info_register_the_data(make: Make) -> None:
    """Also for NUM_CLASSES 0; a misspelt name is an error."""
    cfg = choose(make("yolo"), epochs=1, overrides=["MODEL.DETECTION_HEAD.NUM_CLASSES", "0"])
    cfg.merge_from_list(["MODEL.YOLOR_ELAN.WIDTH", 0.125, "MODEL.YOLOR_ELAN.DEPTH", 0.25])
    Path("c.yaml").write_text(cfg.dump())
    for build in (lambda: build_network("c.yaml", []), lambda: Trainer(cfg).model):
        DatasetCatalog.remove("own_train")  # as in a new process
        head = build().detection_head
        assert head.class_predictors["p3"].weight.shape[0] == 2
    assert Path("out/data/val_instances.json").is_file()
    with pytest.raises(ValueError, match="no data set own_trian; did you mean own_train"):
        build_network("c.yaml", ["DATASETS.TRAIN", "('own_trian',)"])


def test_trial_steps(make: Make) -> None:
    rewards = ["SOLVER.ACCUM_STEPS", 3, "MODEL.CAPTION_HEAD.SCST.SAMPLES", 2]
    root = make("coco_folders")
    for overrides in ([], rewards):
        cfg = choose(root, epochs=1, overrides=["DATALOADER.NUM_WORKERS", "0", *overrides])
        assert 0 < own_data.seconds_per_step(cfg) < 60


def test_trial_steps_of_several_gpus_have_their_share(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = choose(make("yolo"), epochs=1, overrides=["DATALOADER.NUM_WORKERS", "0"])
    sizes = []
    monkeypatch.setattr(own_data, "_devices", lambda cfg: 3)
    monkeypatch.setattr(batch_size.TrialStep, "step", lambda trial, b: sizes.append(len(b)))
    own_data.seconds_per_step(cfg)
    assert sizes == [2] * (own_data.TRIAL_STEPS + 1)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str, make: Make) -> None:
    cfg = choose(make("yolo"), size=size, epochs=1)
    assert SIZES[size].width == cfg.MODEL.YOLOR_ELAN.WIDTH
    assert cfg.MODEL.CAPTION_HEAD.DIM % cfg.MODEL.CAPTION_HEAD.NUM_HEADS == 0


def test_the_dumped_configuration_is_complete(make: Make) -> None:
    cfg = choose(make("yolo"), epochs=3, overrides=["SEED", "5"])
    Path("training.yaml").write_text(cfg.dump())
    loaded = load_config("training.yaml").dump()
    assert yaml.safe_load(loaded) == yaml.safe_load(cfg.dump())
    assert Path(cfg.DATASETS.DATA).is_absolute()
    assert cfg.SEED == 5
    with pytest.raises(ValueError, match="on the command line: Non-existent key: NOTHING"):
        choose(Path("yolo"), epochs=3, overrides=["NOTHING", "5"])
