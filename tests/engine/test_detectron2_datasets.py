"""Data sets that are registered by detectron2's functions train, and have its evaluators."""

import inspect
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import (
    builtin,
    register_coco_instances,
    register_coco_panoptic,
    register_coco_panoptic_separated,
    register_pascal_voc,
)
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.data.datasets.lvis import register_lvis_instances
from detectron2.evaluation import cityscapes_evaluation
from detectron2.structures import BoxMode

from yolor_d2.data.catalog import records
from yolor_d2.engine.trainer import Trainer
from yolor_d2.inference.predictor import Predictor

from ..data.coco_files import restored_catalogs
from ..data.official_files import (
    BOXES,
    HEIGHT,
    IMAGES,
    WIDTH,
    label_map,
    polygon,
    write,
    write_cityscapes,
    write_coco,
    write_images,
    write_panoptic,
    write_voc,
)
from ..modeling.factory import tiny_config
from ..small_runs import SMALL

NAMES = ["cat", "dog"]
MASKS = ("detection", "mask")
ALL = ("detection", "mask", "semantic")
GRASS = {"id": 40, "name": "grass", "isthing": 0}
THINGS = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 8, "name": "dog", "isthing": 1}]
CITY_CLASSES = ((7, "road"), (26, "car"), (24, "person"))


@pytest.fixture(autouse=True)
def empty_catalogs() -> Iterator[None]:
    with restored_catalogs():
        DatasetCatalog.clear()
        MetadataCatalog.data = {}
        yield


def one_step(folder: Path, name: str, tasks: tuple[str, ...], *overrides: Any) -> CfgNode:
    """The configuration of a run of one step on a data set."""
    cfg = tiny_config(tasks)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (name,), (name,)
    options = ["SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 3, "SOLVER.WARMUP_ITERS", 0]
    threshold = ["MODEL.DETECTION_HEAD.TEST.SCORE_THRESH", 0.0]
    cfg.merge_from_list(
        [*SMALL, *options, *threshold, "OUTPUT_DIR", str(folder / "run"), *overrides]
    )
    return cfg


def train(folder: Path, name: str, tasks: tuple[str, ...], *overrides: Any) -> dict[str, Any]:
    """Train for a step on a data set and evaluate on it; return the results."""
    cfg = one_step(folder, name, tasks, *overrides)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return dict(Trainer.test(cfg, trainer.model.eval()))


def is_share(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 100


def write_coco_set(root: Path) -> tuple[str, str]:
    """Write images and instances; return the JSON and the folder of the images."""
    write_images(root / "images")
    return write_coco(root / "instances.json", THINGS, ids=(3, 8)), str(root / "images")


def test_coco_instances(tmp_path: Path) -> None:
    register_coco_instances("robo", {}, *write_coco_set(tmp_path))
    options = ["LOG.PICTURES", 2, "TEST.LOSS_PERIOD", 1, "TEST.EVAL_PERIOD", 1, "TEST.PLOTS", True]
    results = train(tmp_path, "robo", MASKS, *options)
    assert is_share(results["bbox"]["AP"])
    assert is_share(results["segm"]["AP-dog"])
    assert list((tmp_path / "run").glob("**/*.jpg"))
    MetadataCatalog.data = {}
    predictor = Predictor(tmp_path / "run/model_final.pth", device="cpu")
    assert predictor.metadata.thing_classes == NAMES


def panoptic_metadata() -> dict[str, Any]:
    """Return metadata of the "separated" convention: label 0 is all things."""
    return {
        "stuff_classes": ["things", "grass"],
        "stuff_dataset_id_to_contiguous_id": {0: 0, 40: 1},
        "thing_classes": NAMES,
        "thing_dataset_id_to_contiguous_id": {3: 0, 8: 1},
    }


def test_coco_panoptic_separated(tmp_path: Path) -> None:
    instances, images = write_coco_set(tmp_path)
    write_panoptic(tmp_path, "panoptic", categories=[GRASS, *THINGS])
    for number in IMAGES:
        labels = label_map(background=1, labels=(0, 0))
        write(tmp_path / f"stuff/{number:012d}.png", labels)
    maps = [str(tmp_path / "panoptic"), str(tmp_path / "panoptic.json"), str(tmp_path / "stuff")]
    register_coco_panoptic_separated("park", panoptic_metadata(), images, *maps, instances)
    results = train(tmp_path, "park_separated", ALL)
    assert results.keys() == {"bbox", "segm", "sem_seg", "panoptic_seg"}
    assert is_share(results["panoptic_seg"]["PQ"])
    assert "PQ-grass" in results["panoptic_seg"]
    assert is_share(results["sem_seg"]["stuff_mIoU"])
    results = train(tmp_path / "stuff_only", "park_stuffonly", ("semantic",))
    assert results.keys() == {"sem_seg"}


def test_coco_panoptic(tmp_path: Path) -> None:
    """Objects and semantic maps are those of the panoptic maps."""
    instances, images = write_coco_set(tmp_path)
    write_panoptic(tmp_path, "panoptic", categories=[GRASS, *THINGS])
    classes = [*NAMES, "grass"]
    metadata = {
        "thing_classes": classes,
        "stuff_classes": classes,
        "thing_dataset_id_to_contiguous_id": {3: 0, 8: 1},
        "stuff_dataset_id_to_contiguous_id": {40: 2},
    }
    maps = [str(tmp_path / "panoptic"), str(tmp_path / "panoptic.json")]
    register_coco_panoptic("park", metadata, images, *maps, instances)
    results = train(tmp_path, "park", ALL, "LOG.PICTURES", 2, "TEST.LOSS_PERIOD", 1)
    assert results.keys() == {"bbox", "segm", "sem_seg", "panoptic_seg"}
    assert is_share(results["sem_seg"]["IoU-grass"])


@pytest.mark.parametrize("is_named", [True, False])
def test_pascal_voc(tmp_path: Path, is_named: bool) -> None:
    write_voc(tmp_path)
    register_pascal_voc("voc", str(tmp_path), "train", 2007, NAMES)
    if is_named:
        MetadataCatalog.get("voc").evaluator_type = "pascal_voc"
    results = train(tmp_path, "voc", ("detection",))
    assert results["bbox"].keys() == {"AP", "AP50", "AP75"}
    assert is_share(results["bbox"]["AP50"])


def test_lvis(tmp_path: Path) -> None:
    pytest.importorskip("lvis")
    write_images(tmp_path / "images/train2017")
    categories = [{"id": i + 1, "name": n, "frequency": "f"} for i, n in enumerate(NAMES)]
    path = write_coco(tmp_path / "lvis.json", categories, ids=(1, 2), is_lvis=True)
    register_lvis_instances("lvis_v1_mini", {}, path, f"{tmp_path}/images/")
    results = train(tmp_path, "lvis_v1_mini", MASKS)
    assert {"AP", "APr", "APc", "APf"} <= results["segm"].keys()
    assert is_share(results["bbox"]["APf"])


def test_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lvis", None)
    register_lvis_instances("lvis_v1_mini", {}, "x.json", "images/")
    with pytest.raises(ValueError, match=r"^lvis_v1_mini: needs the package lvis$"):
        records.read_records("lvis_v1_mini")


@pytest.mark.parametrize(
    ("name", "tasks", "expected"),
    [
        ("cityscapes_fine_instance_seg_train", MASKS, {"segm"}),
        ("cityscapes_fine_sem_seg_train", ("semantic",), {"sem_seg"}),
        ("cityscapes_fine_panoptic_train", ALL, {"bbox", "segm", "sem_seg", "panoptic_seg"}),
    ],
)
def test_cityscapes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    tasks: tuple[str, ...],
    expected: set[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # the official program writes matches.json
    if "panoptic" not in name:
        pytest.importorskip("cityscapesscripts")
        if "deeplearning." in inspect.getsource(cityscapes_evaluation):
            pytest.skip("this detectron2 imports a package that is not public")
    if "instance" in name:
        pytest.importorskip("shapely")
    root = tmp_path / "cityscapes"
    write_cityscapes(root, "train")
    road, car, person = ({"id": i, "name": n, "isthing": n != "road"} for i, n in CITY_CLASSES)
    stem = "aachen_{:06d}_000019"
    write_panoptic(
        root / "gtFine",
        "cityscapes_panoptic_train",
        categories=[road, car, person],
        name=f"{stem}_gtFine_panoptic",
        ids=[stem.format(number) for number in IMAGES],
    )
    builtin.register_all_cityscapes(str(tmp_path))
    builtin.register_all_cityscapes_panoptic(str(tmp_path))
    results = train(tmp_path, name, tasks)
    assert results.keys() == expected


def plain_records(root: Path) -> list[dict[str, Any]]:
    """Records as people write them: no image ids or sizes, both kinds of boxes, arrays."""
    write_images(root, name="{}.jpg")
    modes = {0: BoxMode.XYXY_ABS, 1: BoxMode.XYWH_ABS}
    found = []
    for number in IMAGES:
        annotations = []
        for thing, (x, y, width, height) in BOXES.items():
            box = (x, y, x + width, y + height) if thing == 0 else (x, y, width, height)
            annotations.append(
                {
                    "bbox": np.array(box, np.float32),
                    "bbox_mode": modes[thing],
                    "category_id": thing,
                    "segmentation": [np.array(polygon(BOXES[thing]))],
                }
            )
        found.append({"file_name": str(root / f"{number}.jpg"), "annotations": annotations})
    return found


def test_function(tmp_path: Path) -> None:
    """The first line of detectron2's tutorial; the records are the ground truth."""
    readings = []
    DatasetCatalog.register("mine", lambda: readings.append(1) or plain_records(tmp_path))
    MetadataCatalog.get("mine").set(thing_classes=NAMES)
    results = train(tmp_path, "mine", MASKS)
    assert is_share(results["bbox"]["AP-cat"])
    assert is_share(results["segm"]["AP"])


def test_function_without_masks(tmp_path: Path) -> None:
    """A segmentation of None or [] counts as none."""
    made = plain_records(tmp_path)
    for record in made:
        record["annotations"][0]["segmentation"] = None
        record["annotations"][1]["segmentation"] = []
    DatasetCatalog.register("boxes", lambda: made)
    MetadataCatalog.get("boxes").set(thing_classes=NAMES)
    assert train(tmp_path, "boxes", ("detection",)).keys() == {"bbox"}
    with pytest.raises(ValueError, match="TASKS has mask, but no image of boxes has such targets"):
        train(tmp_path / "mask", "boxes", MASKS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 2}, "an object has category_id 2, there are 2 classes"),
        ({"bbox": [1, 2, 3, 4, 5]}, "an object has a box of 5 numbers, not 4"),
        ({"bbox_mode": None}, "an object has no bbox_mode"),
    ],
)
def test_invalid_record_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    made = plain_records(tmp_path)
    made[1]["annotations"][0] |= change
    if change == {"bbox_mode": None}:
        del made[1]["annotations"][0]["bbox_mode"]
    DatasetCatalog.register("mine", lambda: made)
    MetadataCatalog.get("mine").set(thing_classes=NAMES)
    with pytest.raises(ValueError, match=rf"^mine: .*2\.jpg: {message}$"):
        records.read_records("mine")


def test_failing_function_is_one_line() -> None:
    DatasetCatalog.register("broken", lambda: {}["x"])
    with pytest.raises(ValueError, match=r"^broken: cannot be loaded \(KeyError: 'x'\)$"):
        records.read_records("broken")


def test_records_are_read_once_in_the_context(tmp_path: Path) -> None:
    readings = []
    DatasetCatalog.register("mine", lambda: readings.append(1) or plain_records(tmp_path))
    with records.reading_once():
        assert records.read_metadata("mine").get("thing_classes") is None
        assert [r["image_id"] for r in records.read_records("mine")] == [0, 1, 2]
        with records.reading_once():
            first = records.read_records("mine")[0]
    assert (first["width"], first["height"]) == (WIDTH, HEIGHT)
    assert len(readings) == 1
    records.read_records("mine")
    assert len(readings) == 2


def test_a_trainer_reads_its_data_once(tmp_path: Path) -> None:
    """Also where the classes are known only after reading, as of `register_coco_instances`."""
    readings = []

    def read() -> list[dict[str, Any]]:
        readings.append(1)
        MetadataCatalog.get("lazily_filled").thing_classes = list(NAMES)
        return plain_records(tmp_path)

    DatasetCatalog.register("lazily_filled", read)
    Trainer(one_step(tmp_path, "lazily_filled", ("detection",))).train()
    assert len(readings) == 1


def test_builtin_coco(tmp_path: Path) -> None:
    """coco_2017_train and coco_2017_val_panoptic_separated, in the official layout."""
    root = tmp_path / "coco"
    for split in ("train", "val"):
        write_images(root / f"{split}2017")
        things = [category for category in COCO_CATEGORIES if category["isthing"]]
        write_coco(root / f"annotations/instances_{split}2017.json", things, ids=(17, 18))
    classes = [next(c for c in COCO_CATEGORIES if c["id"] == i) for i in (193, 17, 18)]
    write_panoptic(root, "panoptic_val2017", categories=classes)
    (root / "panoptic_val2017.json").rename(root / "annotations/panoptic_val2017.json")
    builtin.register_all_coco(str(tmp_path))
    metadata = MetadataCatalog.get("coco_2017_val_panoptic_separated")
    grass = metadata.stuff_dataset_id_to_contiguous_id[193]
    for number in IMAGES:
        path = root / f"panoptic_stuff_val2017/{number:012d}.png"
        write(path, label_map(background=grass, labels=(0, 0)))
    assert is_share(train(tmp_path / "a", "coco_2017_train", MASKS)["segm"]["AP"])
    results = train(tmp_path / "b", "coco_2017_val_panoptic_separated", ALL)
    assert results.keys() == {"bbox", "segm", "sem_seg", "panoptic_seg"}
