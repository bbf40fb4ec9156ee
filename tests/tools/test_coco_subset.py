"""datasets/prepare_coco_subset.py: a part of COCO that `yolor-d2 train --data` reads."""

import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolor_d2.data.formats.recognize import recognize

SCRIPT = Path(__file__).parents[2] / "datasets/prepare_coco_subset.py"


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images a split, with an object and a caption each."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (folder / split).mkdir()
        images = [{"id": k, "file_name": f"{k}.png", "width": 32, "height": 24} for k in range(4)]
        for image in images:
            picture = np.full((24, 32, 3), 60 * int(str(image["id"])), np.uint8)
            cv2.imwrite(str(folder / split / f"{image['id']}.png"), picture)
        objects = [
            {
                "id": k + 1,
                "image_id": k,
                "category_id": 1,
                "iscrowd": 0,
                "area": 64,
                "bbox": [4, 4, 8, 8],
                "segmentation": [[4, 4, 12, 4, 12, 12, 4, 12]],
            }
            for k in range(4)
        ]
        captions = [{"id": k + 1, "image_id": k, "caption": f"a box {k}"} for k in range(4)]
        categories = [{"id": 1, "name": "box"}]
        instances = {"images": images, "annotations": objects, "categories": categories}
        files = {"instances": instances, "captions": {"images": images, "annotations": captions}}
        for name, content in files.items():
            (folder / "annotations" / f"{name}_{split}.json").write_text(json.dumps(content))
    return folder


def run(*arguments: Any) -> None:
    runpy.run_path(str(SCRIPT))["main"]([str(each) for each in arguments])


def test_chosen_images(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text(json.dumps({"train2017": [3, 1], "val2017": [2]}))
    run("--output", tmp_path / "small", "--ids", tmp_path / "ids.json")
    data = recognize(tmp_path / "small").read(tmp_path / "small")
    found = {
        part: {Path(record["file_name"]).name: record["captions"] for record in records}
        for part, records in data.parts.items()
    }
    assert found == {
        "train": {"3.png": ["a box 3"], "1.png": ["a box 1"]},
        "val": {"2.png": ["a box 2"]},
    }
    assert all(len(r["annotations"]) == 1 for records in data.parts.values() for r in records)


def test_first_images(coco: Path, tmp_path: Path) -> None:
    run("--output", tmp_path / "small", "--number", 2)
    assert sorted(path.name for path in (tmp_path / "small/val2017").iterdir()) == [
        "0.png",
        "1.png",
    ]


def test_an_unknown_image_is_one_line(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text(json.dumps({"train2017": [9]}))
    with pytest.raises(SystemExit, match=r"instances_train2017.json has no image 9"):
        run("--output", tmp_path / "small", "--ids", tmp_path / "ids.json")
