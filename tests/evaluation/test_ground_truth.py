"""Perfect predictions have perfect scores on data sets that detectron2's functions register."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import (
    convert_to_coco_json,
    register_coco_panoptic,
    register_coco_panoptic_separated,
)
from detectron2.structures import Boxes, BoxMode, Instances

from yolor_d2.data.catalog.records import read_records
from yolor_d2.data.views.reading import RecordReader
from yolor_d2.evaluation import build_evaluators
from yolor_d2.evaluation.coco.ground_truth import read_ground_truth
from yolor_d2.modeling.panoptic import PanopticMerger, panoptic_tables
from yolor_d2.structures import SemanticMap

from ..data.official_files import (
    BOXES,
    HEIGHT,
    IMAGES,
    WIDTH,
    label_map,
    polygon,
    write,
    write_coco,
    write_images,
    write_panoptic,
)

Json = dict[str, Any]

ALL = ("detection", "mask", "semantic", "panoptic")
GRASS = {"id": 40, "name": "grass", "isthing": 0}
THINGS = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 8, "name": "dog", "isthing": 1}]
THING_IDS = {3: 0, 8: 1}


def perfect_output(stuff: tuple[int, int], tables: tuple[list[int], list[int]]) -> Json:
    """Return the ground truth as a prediction.

    Args:
        stuff: labels of the grass and of things in the semantic map.
        tables: of the panoptic merger.
    """
    masks = np.stack([label_map(background=0, labels=(k == 0, k == 1)) for k in (0, 1)])
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in BOXES.values()]).float()
    instances = Instances(
        (HEIGHT, WIDTH),
        pred_boxes=Boxes(boxes),
        pred_classes=torch.tensor([0, 1]),
        pred_masks=torch.from_numpy(masks).bool(),
        scores=torch.ones(2),
    )
    labels = label_map(background=stuff[0], labels=(stuff[1],) * 2)
    sem_seg = SemanticMap(torch.from_numpy(labels), num_classes=3)
    merger = PanopticMerger(
        thing_to_panoptic=tables[0], leaf_to_panoptic=tables[1], stuff_area_limit=1
    )
    return {
        "instances": instances,
        "sem_seg": sem_seg,
        "panoptic_seg": merger(instances, sem_seg),
    }


def scores(name: str, output: Json) -> Json:
    evaluator = build_evaluators(name, ALL)
    evaluator.reset()
    evaluator.process(read_records(name), [output] * len(IMAGES))
    return dict(evaluator.evaluate())


@pytest.fixture
def files(tmp_path: Path, catalogs: None) -> Json:
    write_images(tmp_path / "images")
    write_panoptic(tmp_path, "panoptic", categories=[GRASS, *THINGS])
    return {
        "image_root": str(tmp_path / "images"),
        "panoptic_root": str(tmp_path / "panoptic"),
        "panoptic_json": str(tmp_path / "panoptic.json"),
        "instances_json": write_coco(tmp_path / "instances.json", THINGS, ids=(3, 8)),
    }


def test_separated_panoptic_set(tmp_path: Path, files: Json) -> None:
    for number in IMAGES:
        write(tmp_path / f"stuff/{number:012d}.png", label_map(background=1, labels=(0, 0)))
    metadata = {
        "stuff_classes": ["things", "grass"],
        "stuff_dataset_id_to_contiguous_id": {0: 0, 40: 1},
    }
    register_coco_panoptic_separated(
        "park", metadata, sem_seg_root=str(tmp_path / "stuff"), **files
    )
    read_records("park_separated")  # sets the classes of things
    tables = panoptic_tables(MetadataCatalog.get("park_separated"))
    assert tables == ([0, 1], [-1, 1])
    found = scores("park_separated", perfect_output((1, 0), tables))
    assert found["panoptic_seg"]["PQ"] == found["panoptic_seg"]["PQ-dog"] == 100
    assert found["sem_seg"]["mIoU"] == 100
    assert found["segm"]["AP"] > 99


@pytest.mark.parametrize("has_instances", [True, False])
def test_standard_panoptic_set(files: Json, has_instances: bool) -> None:
    """Without an instances JSON, the segments of things are the objects."""
    if not has_instances:
        files["instances_json"] = None
    classes = ["cat", "dog", "grass"]
    metadata = {
        "thing_classes": classes,
        "stuff_classes": classes,
        "thing_dataset_id_to_contiguous_id": THING_IDS,
        "stuff_dataset_id_to_contiguous_id": {40: 2},
    }
    register_coco_panoptic("park", metadata, **files)
    tables = panoptic_tables(MetadataCatalog.get("park"))
    assert tables == ([0, 1, -1], [-1, -1, 2])
    output = perfect_output((2, 0), tables)
    output["sem_seg"] = SemanticMap(
        torch.from_numpy(label_map(background=2, labels=(0, 1))), num_classes=3
    )
    found = scores("park", output)
    assert found["panoptic_seg"]["PQ"] == found["sem_seg"]["mIoU"] == 100
    assert found["bbox"]["AP"] > 99
    assert found["segm"]["AP"] > 99
    record = read_records("park")[0]
    objects = RecordReader().objects(record)
    assert objects.boxes.tolist() == [[x, y, x + w, y + h] for x, y, w, h in BOXES.values()]
    labels = RecordReader().labels(record)
    assert (labels == label_map(background=2, labels=(0, 1))).all()


def test_records_are_converted_as_by_detectron2(tmp_path: Path, catalogs: None) -> None:
    write_images(tmp_path)
    records = [
        {
            "file_name": str(tmp_path / f"{number:012d}.jpg"),
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": [
                {
                    "bbox": [box[0], box[1], box[0] + box[2], box[1] + box[3]],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": thing,
                    **({"segmentation": [polygon(box)]} if number > 1 else {}),
                }
                for thing, box in BOXES.items()
            ],
        }
        for number in IMAGES
    ]
    DatasetCatalog.register("mine", lambda: records)
    MetadataCatalog.get("mine").set(thing_classes=["cat", "dog"])
    path = tmp_path / "converted.json"
    convert_to_coco_json("mine", str(path))
    expected = json.loads(path.read_text())
    made = read_ground_truth("mine")
    assert all(made[key] == expected[key] for key in ("images", "categories", "annotations"))
