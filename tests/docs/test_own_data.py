"""Runs all files and commands of the pages on own data, from images to predictions."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.data.formats.summary import summary

from ..data.coco_files import restored_catalogs
from ..data.formats.samples import WRITERS
from .documents import Names, read_blocks, run_blocks

DOCUMENTS = ("docs/guides/own_data.md", "docs/guides/register_data.md")
FORMATS = "docs/reference/data_formats.md"
FASTER = ("SOLVER.MAX_ITER", "4", "DATALOADER.NUM_WORKERS", "0", "LOG.PICTURES", "2")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    """Variables of the document's Python blocks; `folder` is the folder they ran in."""
    folder = tmp_path_factory.mktemp("own_data")
    names: Names = {"__name__": "own_data", "folder": folder}
    with restored_catalogs(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setattr(sys, "argv", ["yolor-d2"])  # changed by the console script
        for document in DOCUMENTS:
            run_blocks(document, names, overrides=FASTER)
        yield names
    del sys.modules["my_data"]


def test_documents_have_the_expected_blocks() -> None:
    blocks = [block for document in DOCUMENTS for block in read_blocks(document)]
    assert [block.file for block in blocks if block.file] == ["my_data.py", "my_config.yaml"]
    languages = Counter(block.language for block in blocks)
    assert languages == {"python": 6, "yaml": 1, "bash": 4, "": 1}


def test_one_command(names: Names) -> None:
    folder: Path = names["folder"]
    assert len(list((folder / "output/shapes/pictures").glob("*.png"))) == 8
    metrics = json.loads((folder / "output/shapes/metrics.json").read_text())
    assert "bbox/AP" in metrics
    lines = (folder / "output/shapes/predicted/predictions.jsonl").read_text().splitlines()
    assert len(lines) == 8


def test_labels_from_a_network(names: Names) -> None:
    labeled: Path = names["folder"] / "output/labeled"
    content = json.loads((labeled / "annotations/instances_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{i}.png" for i in range(8)]
    assert [category["name"] for category in content["categories"]] == ["ball", "box"]


def test_five_lines_of_each_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = []
    with restored_catalogs():
        for name, writer in WRITERS.items():
            Path(name).mkdir()
            writer(Path(name))
            printed.append("\n".join(summary(register_own_data(name))) + "\n")
    (block,) = [block for block in read_blocks(FORMATS) if "data:" in block.code]
    assert block.code == "\n".join(printed)


def test_the_record(names: Names) -> None:
    assert names["picture_file"] == "second/images/1.png"
    assert names["caption"] == f"a {names['class_name']} in the dark"
    assert names["classes"] == ["ball", "box"]


def test_the_batch(names: Names) -> None:
    assert names["strong_image"].shape == (3, 160, 160)
    assert names["weak_image"].shape == (3, 120, 160)
    assert names["strong_image"].dtype == names["weak_image"].dtype == torch.uint8
    assert set(names["instances"].get_fields()) == {"gt_boxes", "gt_classes"}
    assert names["words"] in ("a ball in the dark", "a box in the dark")


def test_mixed_data_sets_and_missing_annotations(names: Names) -> None:
    epoch, without_caption = names["epoch"], names["without_caption"]
    assert (len(epoch), len(without_caption)) == (24, 8)
    assert all("instances" in sample for sample in epoch)
    assert all(s["file_name"].startswith("first/") for s in without_caption)
    assert any(len(sample["instances"]) for sample in epoch)


def test_training_and_evaluation(names: Names) -> None:
    folder: Path = names["folder"]
    assert (folder / "output/mine/curves.png").is_file()
    assert len(list((folder / "output/mine/samples").glob("sample_*.jpg"))) == 2
    metrics = json.loads((folder / "output/test/metrics.json").read_text())
    assert {"bbox/AP", "caption/CIDEr"} <= metrics.keys()


def test_prediction(names: Names) -> None:
    folder, prediction = names["folder"], names["prediction"]
    assert isinstance(prediction.caption, str)
    assert prediction.instances.image_size == (120, 160)
    assert prediction.metadata.thing_classes == ["ball", "box"]
    drawn = cv2.imread(str(folder / "prediction.png"))
    assert (drawn[:, :, ::-1] == prediction.draw()).all()
    (line,) = (folder / "predictions/predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["caption"] == prediction.caption
