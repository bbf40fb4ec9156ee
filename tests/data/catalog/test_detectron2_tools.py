"""detectron2's own evaluators, Visualizer, mapper and loaders work with our data sets."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.evaluation import COCOEvaluator, SemSegEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer
from pycocotools import mask as mask_util

from yolor_d2.config import add_yolor_config
from yolor_d2.data import build_train_loader, register_coco_multitask
from yolor_d2.data.files.semantic_files import read_index_png
from yolor_d2.toy_scenes import builtin
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from ..coco_files import restored_catalogs

Record = dict[str, Any]

VAL = "toy_scenes_val"
SHORT_SIDE = 120  # of the images after detectron2's resizing


@pytest.fixture(scope="module", autouse=True)
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Registers a few toy scenes under their usual names."""
    root = tmp_path_factory.mktemp("datasets")
    generate_toy_scenes(root / "toy_scenes", train=6, val=5, seed=2, workers=0, progress=False)
    with restored_catalogs():
        DatasetCatalog.clear()
        MetadataCatalog.data = {}
        builtin.register_all(root)
        yield root / "toy_scenes"


# Evaluators


def truth_as_prediction(record: Record, *, masks: bool, shift: int = 0) -> Record:
    """Return perfect predictions; `shift` is added to the classes."""
    objects = [a for a in record["annotations"] if not a["iscrowd"]]
    size = (record["height"], record["width"])
    boxes = torch.tensor([a["bbox"] for a in objects], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = Instances(size, pred_boxes=Boxes(boxes), scores=torch.ones(len(objects)))
    instances.pred_classes = torch.tensor([(a["category_id"] + shift) % 10 for a in objects])
    if masks:
        bitmaps = [as_bitmap(a["segmentation"], size) for a in objects]
        instances.pred_masks = torch.from_numpy(np.array(bitmaps).reshape(-1, *size))
    return {"instances": instances}


def as_bitmap(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    return mask_util.decode(segmentation).astype(bool)


def evaluate_truth(name: str, *, masks: bool, shift: int = 0) -> dict[str, dict[str, float]]:
    evaluator = COCOEvaluator(name, distributed=False, use_fast_impl=False)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        evaluator.process([record], [truth_as_prediction(record, masks=masks, shift=shift)])
    return evaluator.evaluate()


def test_average_precision_of_perfect_predictions() -> None:
    results = evaluate_truth(VAL, masks=True)
    assert results.keys() == {"bbox", "segm"}
    for task in results.values():
        assert task["AP"] == pytest.approx(100)
        assert task["AP75"] == pytest.approx(100)


def test_average_precision_of_wrong_classes() -> None:
    results = evaluate_truth(VAL, masks=True, shift=1)
    assert results["bbox"]["AP"] < 20
    assert results["segm"]["AP"] < 20


@pytest.mark.parametrize("empty", [None, []])
def test_average_precision_of_a_data_set_of_boxes(
    toy_root: Path, tmp_path: Path, empty: list[Any] | None
) -> None:
    content = json.loads((toy_root / "annotations/instances_val.json").read_text())
    for entry in content["annotations"]:
        del entry["segmentation"]
        if empty is not None:
            entry["segmentation"] = empty
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    with restored_catalogs():
        register_coco_multitask("boxes", toy_root / "val", instances_json=path)
        results = evaluate_truth("boxes", masks=False)
    assert results.keys() == {"bbox"}
    assert results["bbox"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("is_right", [True, False])
def test_intersection_over_union(is_right: bool) -> None:
    evaluator = SemSegEvaluator(VAL, distributed=False)
    evaluator.reset()
    num_classes = len(MetadataCatalog.get(VAL).stuff_classes)
    for record in DatasetCatalog.get(VAL):
        labels = read_index_png(record["sem_seg_file_name"]).astype(np.int64)
        labels[labels == 255] = 0  # any prediction is correct there
        if not is_right:
            labels = (labels + 1) % num_classes
        scores = torch.nn.functional.one_hot(torch.from_numpy(labels), num_classes)
        evaluator.process([record], [{"sem_seg": scores.permute(2, 0, 1)}])
    results = evaluator.evaluate()["sem_seg"]
    assert results["mIoU"] == pytest.approx(100 if is_right else 0, abs=10 * (not is_right))
    assert (results["pACC"] == pytest.approx(100)) == is_right


# Visualizer


def draw(record: Record, metadata: str) -> np.ndarray:
    """Draw on black."""
    black = np.zeros((record["height"], record["width"], 3), np.uint8)
    return Visualizer(black, MetadataCatalog.get(metadata)).draw_dataset_dict(record).get_image()


def assert_has_color(picture: np.ndarray, where: np.ndarray, color: tuple[int, ...]) -> None:
    """Half transparent on black; contours and texts are elsewhere in most places."""
    np.testing.assert_allclose(np.median(picture[where], axis=0), np.array(color) / 2, atol=3)


def test_the_visualizer_draws_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    # It colors objects at random, sometimes black on the black of this test.
    bright = np.array([0.2, 0.6, 0.9])
    monkeypatch.setattr("detectron2.utils.visualizer.random_color", lambda **_: bright)
    record = next(r for r in DatasetCatalog.get(VAL) if r["annotations"])
    record = {k: v for k, v in record.items() if k in ("annotations", "width", "height")}
    picture = draw(record, VAL)
    for annotation in record["annotations"]:
        mask = as_bitmap(annotation["segmentation"], picture.shape[:2])
        assert (picture[mask].max(axis=1) > 0).mean() > 0.9
    assert not draw(record | {"annotations": []}, VAL).any()


def test_the_visualizer_draws_semantic_maps_in_our_colors() -> None:
    meta = MetadataCatalog.get(VAL)
    record = DatasetCatalog.get(VAL)[0]
    record = {k: v for k, v in record.items() if not k.startswith(("pan_seg", "annotations"))}
    labels = read_index_png(record["sem_seg_file_name"])
    most = int(np.bincount(labels[labels != 255]).argmax())
    picture = draw(record, VAL)
    assert_has_color(picture, labels == most, meta.stuff_colors[most])


def test_the_visualizer_draws_panoptic_maps_with_panoptic_metadata() -> None:
    record = DatasetCatalog.get(VAL)[0]
    blue, green, red = cv2.imread(record["pan_seg_file_name"]).astype(np.int64).transpose(2, 0, 1)
    ids = red + 256 * green + 65536 * blue
    shown = {k: record[k] for k in ("width", "height", "segments_info")}
    # detectron2 opens the file itself where panopticapi is installed.
    picture = draw({**shown, "pan_seg": ids}, f"{VAL}_panoptic")
    stuff = [s for s in record["segments_info"] if not s["isthing"]]
    segment = max(stuff, key=lambda s: s["area"])
    color = MetadataCatalog.get(VAL).panoptic_colors[segment["category_id"]]
    assert_has_color(picture, ids == segment["id"], color)
    for thing in (s for s in record["segments_info"] if s["isthing"]):
        assert (picture[ids == thing["id"]].max(axis=1) > 0).mean() > 0.9


# Mapper and loaders


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    """detectron2's defaults: random mirroring, ResizeShortestEdge."""
    cfg = get_cfg()
    add_yolor_config(cfg)
    cfg.DATASETS.TRAIN = ("toy_scenes_train",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.DATASET_MAPPER_NAME = "detectron2"
    cfg.INPUT.MIN_SIZE_TRAIN = (SHORT_SIDE,)
    cfg.INPUT.MIN_SIZE_TEST = SHORT_SIDE
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.MODEL.MASK_ON = True
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.OUTPUT_DIR = str(tmp_path)
    return cfg


def check_item(item: Record) -> bool:
    """Check that objects and labels moved with the image; return whether it is mirrored."""
    record = next(r for r in DatasetCatalog.get("toy_scenes_train") if same_file(r, item))
    height, width = item["image"].shape[1:]
    assert min(height, width) == SHORT_SIDE
    assert item["sem_seg"].shape == (height, width)
    instances = item["instances"]
    objects = [a for a in record["annotations"] if not a["iscrowd"]]
    assert instances.gt_classes.tolist() == [a["category_id"] for a in objects]
    expected = torch.tensor([a["bbox"] for a in objects]) * (height / record["height"])
    expected[:, 2:] += expected[:, :2]
    mirrored = torch.tensor([width, 0, width, 0]) + expected[:, [2, 1, 0, 3]] * torch.tensor(
        [-1, 1, -1, 1]
    )
    found = instances.gt_boxes.tensor
    differences = [(found - boxes).abs().max().item() for boxes in (expected, mirrored)]
    assert min(differences) < 0.1
    for category, mask in zip(instances.gt_classes, instances.gt_masks, strict=True):
        labels = item["sem_seg"][mask]  # things have the same indices in both tables
        assert (labels == category).float().mean() > 0.8
    return differences[1] < differences[0]


def same_file(one: Record, other: Record) -> bool:
    return one["file_name"] == other["file_name"]


def test_detectron2_trains_on_our_data_sets(cfg: CfgNode) -> None:
    for batch in islice(build_detection_train_loader(cfg), 5):
        assert len(batch) == 2
        for item in batch:
            check_item(item)


def test_detectron2_tests_on_our_data_sets(cfg: CfgNode) -> None:
    items = [item for batch in build_detection_test_loader(cfg, VAL) for item in batch]
    records = DatasetCatalog.get(VAL)
    assert [item["file_name"] for item in items] == [r["file_name"] for r in records]
    assert all(min(item["image"].shape[1:]) == SHORT_SIDE for item in items)


def test_our_loader_with_the_mapper_of_detectron2(cfg: CfgNode) -> None:
    items = [item for batch in islice(build_train_loader(cfg), 6) for item in batch]
    assert len({item["file_name"] for item in items}) == 6
    assert {check_item(item) for item in items} == {False, True}


def pixels(cfg: CfgNode, *, start: int, stop: int) -> list[tuple[str, torch.Tensor]]:
    loader = build_train_loader(cfg, start_iteration=start)
    batches = islice(loader, stop - start)
    return [(item["file_name"], item["image"]) for batch in batches for item in batch]


def assert_equal(
    items: list[tuple[str, torch.Tensor]], others: list[tuple[str, torch.Tensor]]
) -> None:
    assert [name for name, _ in items] == [name for name, _ in others]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(items, others, strict=True))


def test_detectron2_mapper_depends_on_the_seed(cfg: CfgNode) -> None:
    cfg.SEED = 3
    items = pixels(cfg, start=0, stop=6)
    torch.rand(5)  # must not matter
    cfg.DATALOADER.NUM_WORKERS = 2
    assert_equal(pixels(cfg, start=0, stop=6), items)
    assert_equal(pixels(cfg, start=4, stop=6), items[8:])

    cfg.SEED = 4
    others = pixels(cfg, start=0, stop=6)
    assert [name for name, _ in others] != [name for name, _ in items]
