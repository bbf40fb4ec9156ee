"""The page of best and worst results."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as coco_mask

from yolor_d2.data.views.targets import rasterize_all, read_objects
from yolor_d2.model_zoo import get_config_file
from yolor_d2.reports.album import CAPTIONS_FILE, OBJECTS_FILE
from yolor_d2.tools.visualize_results import main

from ..reports.pages import Page

CONFIG = get_config_file("toy/yolor_elan_n_toy.yaml")


def perfect_objects(record: dict[str, Any], category_ids: dict[int, int]) -> list[dict[str, Any]]:
    """Results equal to the annotations, in the format of an evaluation."""
    objects = read_objects(record)
    outlines = [objects.outlines(index) for index in range(len(objects.classes))]
    size = {"width": record["width"], "height": record["height"]}
    results = []
    for mask, (x0, y0, x1, y1), index in zip(
        rasterize_all(outlines, **size, stride=1), objects.boxes, objects.classes, strict=True
    ):
        rle = coco_mask.encode(np.asfortranarray(mask))
        results.append(
            {
                "image_id": record["image_id"],
                "category_id": category_ids[int(index)],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": 0.9,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    return results


@pytest.fixture
def results(scenes: str, tmp_path: Path) -> Path:
    """Perfect results but for one missed object, one false positive and one wrong caption."""
    to_index = MetadataCatalog.get(scenes).thing_dataset_id_to_contiguous_id
    category_ids = {index: category for category, index in to_index.items()}
    records = DatasetCatalog.get(scenes)
    objects = [o for record in records for o in perfect_objects(record, category_ids)]
    objects[0] = {**objects[0], "bbox": [0, 0, 3, 2]}
    captions = [{"image_id": r["image_id"], "caption": r["captions"][0]} for r in records]
    captions[3]["caption"] = "<b>nonsense</b>"
    folder = tmp_path / "inference" / scenes
    folder.mkdir(parents=True)
    (folder / OBJECTS_FILE).write_text(json.dumps(objects))
    (folder / CAPTIONS_FILE).write_text(json.dumps(captions))
    return folder


def run(results: Path, output: Path, *options: str) -> int:
    where = ["--config-file", CONFIG, "--results", str(results), "--output", str(output)]
    return main([*where, "--number", "3", *options])


def test_the_mistakes_are_on_the_page(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(results, tmp_path / "page") == 0
    page = Page(tmp_path / "page/index.html")
    assert page.headings == [
        "Worst images",
        "Best images",
        "False positives: 1, highest score first",
        "Missed objects: 1, largest first",
        "Worst captions",
        "Best captions",
    ]
    assert len(page.captions) == len(page.pictures) == 3 + 3 + 1 + 1 + 3 + 3
    assert "1 false, 1 missed" in page.captions[0]
    assert "0 false, 0 missed" in page.captions[3]
    assert "90%" in page.captions[6]
    assert "not found" in page.captions[7]
    assert page.captions[8].startswith("0.00: <b>nonsense</b>")
    assert all(picture.std() > 10 for picture in page.pictures)
    for picture in page.pictures[:2]:  # image, annotations and predictions differ
        third = (picture.shape[1] + 8) // 3
        parts = [picture[30:, at + 8 : at + third - 16].astype(int) for at in (0, third, 2 * third)]
        for left, right in itertools.combinations(parts, 2):
            assert np.abs(left - right).mean() > 0.5
    assert "14 pictures are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "headings"), [(OBJECTS_FILE, 2), (CAPTIONS_FILE, 4)], ids=["captions", "objects"]
)
def test_one_result_file_is_enough(results: Path, tmp_path: Path, file: str, headings: int) -> None:
    (results / file).unlink()
    assert run(results, tmp_path / "page") == 0
    assert len(Page(tmp_path / "page/index.html").headings) == headings


def test_a_folder_of_another_name_is_of_the_only_test_set(
    results: Path, scenes: str, tmp_path: Path
) -> None:
    other = results.rename(results.parent / "other")
    assert run(other, tmp_path / "page", "DATASETS.TEST", f"('{scenes}',)") == 0
    assert scenes in Page(tmp_path / "page/index.html").text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (OBJECTS_FILE, "{", "is not valid JSON"),
        (OBJECTS_FILE, '{"a": 1}', "is not a list of results"),
        (OBJECTS_FILE, '[{"image_id": 1, "category_id": 77}]', "a result has no bbox"),
        (
            OBJECTS_FILE,
            '[{"image_id": 1, "category_id": 77, "bbox": [1, 2, 3, 4], "score": 0.5}]',
            "category 77 is not a class of",
        ),
        (CAPTIONS_FILE, '[{"image_id": 1}]', "a result has no caption"),
        (CAPTIONS_FILE, None, "has neither"),
    ],
)
def test_errors_are_one_line(
    results: Path,
    tmp_path: Path,
    file: str,
    content: str | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is None:
        (results / OBJECTS_FILE).unlink()
        (results / CAPTIONS_FILE).unlink()
    else:
        (results / file).write_text(content)
    assert run(results, tmp_path / "page") == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("python -m yolor_d2.tools.visualize_results: ")
    assert message in error


def test_results_of_unknown_images_are_ignored(results: Path, tmp_path: Path) -> None:
    for file in (OBJECTS_FILE, CAPTIONS_FILE):
        content = json.loads((results / file).read_text())
        (results / file).write_text(json.dumps([*content, {**content[0], "image_id": 123456789}]))
    assert run(results, tmp_path / "page") == 0
    assert "False positives: 1," in Page(tmp_path / "page/index.html").text


def test_results_of_another_data_set_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (OBJECTS_FILE, CAPTIONS_FILE):
        content = json.loads((results / file).read_text())
        others = [{**entry, "image_id": entry["image_id"] + 10**6} for entry in content]
        (results / file).write_text(json.dumps(others))
    assert run(results, tmp_path / "page") == 2
    assert "has no results for images of" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_a_page_without_detections(results: Path, tmp_path: Path) -> None:
    (results / OBJECTS_FILE).write_text("[]")
    (results / CAPTIONS_FILE).unlink()
    assert run(results, tmp_path / "page") == 0
    page = Page(tmp_path / "page/index.html")
    assert "False positives: 0, highest score first" in page.headings
    assert len(page.pictures) == 9  # worst images, best images, missed objects


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_number_must_be_positive(
    results: Path, tmp_path: Path, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(results, tmp_path / "page", "--number", number)
    assert f"{number} is not a positive number" in capsys.readouterr().err
