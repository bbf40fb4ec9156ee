"""Semantic and panoptic PNGs beside the files of COCO's layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata, MetadataCatalog
from PIL import Image

from yolor_d2.data.checks.dataset import ProblemList, check_dataset
from yolor_d2.data.files.semantic_files import write_index_png
from yolor_d2.data.formats.registration import register_own_data, register_test_data
from yolor_d2.data.formats.summary import summary
from yolor_d2.errors import DataError
from yolor_d2.evaluation.panoptic import PanopticEvaluator

from .conftest import Make
from .samples import HEIGHT, WIDTH, box_of, class_of, write

PANOPTIC = [
    {"id": 10, "name": "ball", "isthing": 1, "color": [9, 8, 7]},
    {"id": 20, "name": "box", "isthing": 1},
    {"id": 3, "name": "floor", "isthing": 0},
]
SEMANTIC = [{"index": 0, "id": 7, "name": "floor"}, {"index": 1, "id": 9, "name": "things"}]


def add_maps(root: Path, *, below: str = "annotations", semantic: Any = None) -> None:
    """Add maps to `coco_folders`."""
    for split, numbers in (("train2017", range(6)), ("val2017", range(6, 8))):
        annotations = []
        folders = [root / below / f"{kind}_{split}" for kind in ("semantic", "panoptic")]
        folders[1].mkdir(parents=True)
        for n in numbers:
            x, y, w, h = box_of(n)
            is_thing = np.zeros((HEIGHT, WIDTH), np.uint8)
            is_thing[y : y + h, x : x + w] = 1
            write_index_png(folders[0] / f"{n}.png", is_thing)
            colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            colors[..., 0] = 1 + is_thing
            Image.fromarray(colors).save(folders[1] / f"{n}.png")
            segments = [
                {"id": 1, "category_id": 3, "area": WIDTH * HEIGHT - 120, "iscrowd": 0},
                {"id": 2, "category_id": (10, 20)[class_of(n)], "area": 120, "iscrowd": 0},
            ]
            annotations.append(
                {"image_id": n + 100, "file_name": f"{n}.png", "segments_info": segments}
            )
        write(folders[0] / "categories.json", {"categories": semantic or SEMANTIC})
        images = json.loads((root / f"annotations/instances_{split}.json").read_text())["images"]
        content = {"images": images, "annotations": annotations, "categories": PANOPTIC}
        write(root / f"annotations/panoptic_{split}.json", content)


@pytest.mark.parametrize("below", ["annotations", "."])
def test_maps_are_read(make: Make, tmp_path: Path, below: str) -> None:
    root = make("coco_folders")
    add_maps(root, below=below)
    found = register_own_data(str(root), truth_folder=tmp_path / "truth")
    assert summary(found)[3:] == [
        "labels:  8 objects, 8 with outlines, 8 semantic maps, 8 panoptic maps, 8 captions",
        "tasks:   detection, mask, semantic, caption",
    ]
    for part in ("own_train", "own_val"):
        metadata = MetadataCatalog.get(part)
        assert metadata.stuff_classes == ["floor", "things"]
        assert metadata.stuff_dataset_id_to_contiguous_id == {7: 0, 9: 1}
        assert metadata.panoptic_classes == ["ball", "box", "floor"]
        assert metadata.panoptic_is_thing == [True, True, False]
        assert metadata.panoptic_colors[0] == (9, 8, 7)
        assert MetadataCatalog.get(f"{part}_panoptic").stuff_classes == metadata.panoptic_classes
        problems = ProblemList()
        report = check_dataset(part, problems)[0]
        assert not problems.counts
        assert report.class_counts["panoptic", 2] == (6 if part == "own_train" else 2)


def test_panoptic_maps_are_evaluated(make: Make, tmp_path: Path) -> None:
    """Against annotations of the images for validation, with ids of the data."""
    root = make("coco_folders")
    add_maps(root)
    found = register_own_data(str(root), truth_folder=tmp_path / "truth")
    evaluator = PanopticEvaluator("own_val")
    for record in found.data.parts["val"]:
        ids = np.asarray(Image.open(record["pan_seg_file_name"]))[..., 0].astype(np.int32)
        segments = [
            {"id": s["id"], "category_id": s["category_id"], "isthing": s["isthing"]}
            for s in record["segments_info"]
        ]
        output = {"panoptic_seg": (torch.from_numpy(ids), segments)}
        evaluator.process([{"image_id": record["image_id"]}], [output])
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(100)
    network = Metadata(
        thing_classes=["ball", "box"], stuff_classes=["floor", "things"], panoptic_classes=["ball"]
    )
    register_test_data(str(root), network, truth_folder=tmp_path / "truth")
    assert MetadataCatalog.get("own_val").get("panoptic_classes") is None


def test_semantic_maps_alone(make: Make) -> None:
    root = make("coco_folders")
    add_maps(root)
    for file in (root / "annotations").glob("*.json"):
        file.unlink()
    found = register_own_data(str(root))
    assert summary(found)[2:] == [
        "classes: 2 (floor, things)",
        "labels:  8 semantic maps",
        "tasks:   semantic; no labels for detection, mask, caption",
    ]


def test_panoptic_maps_whose_stuff_is_no_semantic_class_are_left_out(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    root = make("coco_folders")
    others = [{"index": 0, "id": 7, "name": "ground"}, SEMANTIC[1]]
    add_maps(root, semantic=others)
    found = register_own_data(str(root))
    assert found.data.panoptic is None
    assert "panoptic" not in summary(found)[3]
    assert "panoptic_train2017.json: left out, the semantic maps have no class floor" in caplog.text


def test_maps_without_a_list_of_classes_are_not_read(make: Make) -> None:
    root = make("coco_folders")
    add_maps(root)
    for split in ("train2017", "val2017"):
        (root / f"annotations/semantic_{split}/categories.json").unlink()
    found = register_own_data(str(root))
    assert found.data.sem_seg is found.data.panoptic is None


def test_wrong_lists_of_classes(make: Make) -> None:
    root = make("coco_folders")
    add_maps(root, semantic=[{**entry, "index": 3} for entry in SEMANTIC])
    file = root.absolute() / "annotations/semantic_train2017/categories.json"
    with pytest.raises(DataError, match=f"{file}: the index of its categories does not count"):
        register_own_data(str(root))
    write(file, {"categories": SEMANTIC})
    other = root.absolute() / "annotations/semantic_val2017/categories.json"
    write(other, {"categories": SEMANTIC[:1]})
    with pytest.raises(DataError, match=f"{other}: its categories differ from those of {file}"):
        register_own_data(str(root))
