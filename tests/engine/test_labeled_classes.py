"""Two data sets with different classes train one detector."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from yolor_d2.data.formats.registration import register_configured
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.main import main
from yolor_d2.engine.trainer import Trainer

from ..data.coco_files import restored_catalogs
from ..data.official_files import write_coco, write_images
from ..modeling.factory import tiny_config
from ..small_runs import SMALL

CLASSES = ["cat", "dog", "car"]


@pytest.fixture(autouse=True)
def data_sets(tmp_path: Path) -> Iterator[None]:
    """Cats and dogs, and dogs and cars, each with category ids of its own."""
    with restored_catalogs():
        for name, (first, second) in {"pets": ("cat", "dog"), "street": ("dog", "car")}.items():
            root = tmp_path / name
            write_images(root)
            categories = [{"id": 1, "name": first}, {"id": 2, "name": second}]
            path = write_coco(root / "instances.json", categories, ids=(1, 2))
            register_coco_instances(name, {}, path, str(root))
        yield


def config(folder: Path, *overrides: object) -> CfgNode:
    cfg = tiny_config(("detection",))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("pets", "street"), ("pets", "street")
    cfg.MODEL.DETECTION_HEAD.NUM_CLASSES = 0
    options = ["SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 4, "TEST.LOSS_PERIOD", 2]
    cfg.merge_from_list([*SMALL, *options, "OUTPUT_DIR", str(folder), *overrides])
    return cfg


def test_data_sets_of_different_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"DATASETS\.THING_CLASSES matches them by name"):
        Trainer(config(tmp_path / "run")).train()


def test_train_and_evaluate_from_a_file(tmp_path: Path) -> None:
    """With train_net.py's program; each data set is scored for its own classes."""
    overrides = ["DATASETS.THING_CLASSES", CLASSES, "TEST.EVAL_PERIOD", 2]
    file = tmp_path / "config.yaml"
    file.write_text(config(tmp_path / "run", *overrides).dump())
    results = main(argument_parser().parse_args(["--config-file", str(file)]))
    scored = {
        name: {key for key in results[name]["bbox"] if key.startswith("AP-")}
        for name in ("pets", "street")
    }
    assert scored == {"pets": {"AP-cat", "AP-dog"}, "street": {"AP-dog", "AP-car"}}
    assert MetadataCatalog.get("street").thing_classes == CLASSES
    checkpoint = torch.load(tmp_path / "run/model_final.pth", weights_only=True)
    bias = checkpoint["model"]["detection_head.class_predictors.p3.bias"]
    assert len(bias) == len(CLASSES)


def test_a_class_that_is_never_labeled_is_not_trained(tmp_path: Path) -> None:
    """Its outputs keep their initial weights, bit for bit, without decay."""
    labels = [["pets", ["dog"]], ["street", ["dog"]]]
    overrides = ["DATASETS.THING_CLASSES", CLASSES, "DATASETS.LABELED_CLASSES", labels]
    cfg = config(tmp_path / "run", *overrides, "SOLVER.WEIGHT_DECAY", 0.0)
    register_configured(cfg)
    trainer = Trainer(cfg)
    dataset = trainer.data_loader.dataset
    records = list(dataset.records)
    assert all(record["labeled_classes"] == (False, True, False) for record in records)
    for record in records:  # its objects, if there are any, are positive all the same
        record["annotations"] = [a for a in record["annotations"] if a["category_id"] == 1]
    dataset.records = records
    predictor = trainer.model.detection_head.class_predictors["p3"]
    before = predictor.weight.clone()

    trainer.train()

    changed = (predictor.weight != before).flatten(1).any(dim=1)
    assert changed.tolist() == [False, True, False]
