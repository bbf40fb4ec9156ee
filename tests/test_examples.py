"""Runs the scripts of examples/, small."""

import csv
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from yolor_d2 import Predictor
from yolor_d2.modeling.heads import DETECTION_HEAD_REGISTRY

from .data.coco_files import restored_catalogs
from .data.formats.samples import WRITERS
from .saved_networks import Saved

FOLDER = Path(__file__).parents[1] / "examples"
TESTED = {"train", "custom_head", "mask_rcnn", "nanodet", "predict_folder", "panoptic_png"}


def load(name: str) -> Callable[..., None]:
    """The main of an example."""
    return runpy.run_path(str(FOLDER / f"{name}.py"))["main"]


def write(name: str, folder: Path) -> Path:
    folder.mkdir()
    WRITERS[name](folder)
    return folder


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == TESTED


def test_train(tmp_path: Path) -> None:
    data = write("yolo", tmp_path / "data")
    steps = ("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0")
    sizes = ("INPUT.STRONG.SIZE", "64", "INPUT.WEAK.SIZE", "64", "LOG.PICTURES", "0")
    with restored_catalogs():
        load("train")(str(data), str(tmp_path / "run"), "detection", overrides=steps + sizes)
    assert (tmp_path / "run/model_final.pth").is_file()
    assert "bbox/AP" in json.loads((tmp_path / "run/metrics.json").read_text())


def test_custom_head(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        load("custom_head")(str(saved.path), str(saved.images[0]))
    finally:
        del DETECTION_HEAD_REGISTRY._obj_map["InnerHead"]
    words = capsys.readouterr().out.split()
    assert 0 <= int(words[2]) <= int(words[0])


def test_mask_rcnn(tmp_path: Path) -> None:
    data = write("coco_json", tmp_path / "data")
    (labels,) = data.rglob("*.json")
    images = next(data.rglob("*.png")).parent
    small = ("SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "DATALOADER.NUM_WORKERS", "0")
    small += (
        "INPUT.MIN_SIZE_TRAIN",
        "(64,)",
        "MODEL.GELAN.SIZE",
        "t",
        "SOLVER.AMP.ENABLED",
        "False",
    )
    with restored_catalogs():
        load("mask_rcnn")(str(labels), str(images), str(tmp_path / "run"), *small)
    assert (tmp_path / "run/model_final.pth").is_file()


def test_predict_folder(saved: Saved, tmp_path: Path) -> None:
    output = tmp_path / "objects.csv"
    load("predict_folder")(str(saved.path), str(saved.images[0].parent), str(output))
    rows = list(csv.DictReader(output.open()))
    assert {Path(row["file"]) for row in rows} <= set(saved.images)
    assert all(float(row["score"]) >= 0.3 for row in rows)


def test_panoptic_png(saved: Saved, tmp_path: Path) -> None:
    load("panoptic_png")(str(saved.path), str(saved.images[0].parent), str(tmp_path / "maps"))
    content = json.loads((tmp_path / "maps.json").read_text())["annotations"]
    assert len(content) == len(saved.images)
    predicted = Predictor(saved.path, device="cpu")(str(saved.images[0])).panoptic_seg[0].numpy()
    picture = cv2.imread(str(tmp_path / "maps" / f"{saved.images[0].stem}.png")).astype(int)
    assert (picture @ [65536, 256, 1] == predicted).all()
    assert {s["id"] for s in content[0]["segments_info"]} == set(predicted[predicted > 0].tolist())


def cells_of_notebook() -> list[str]:
    notebook = json.loads((FOLDER / "first_steps.ipynb").read_text())
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def run_notebook(replacements: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run the cells of the notebook in a folder; its variables."""
    names: dict[str, Any] = {"__name__": "notebook"}
    replacements = {"tempfile.mkdtemp()": repr(str(folder)), **replacements}
    with restored_catalogs():
        for cell in cells_of_notebook():
            for old, new in replacements.items():
                cell = cell.replace(old, new)
            exec(compile(cell, "first_steps.ipynb", "exec"), names)
    return names


def test_notebook_in_short(tmp_path: Path) -> None:
    short = {"SCENES, STEPS = 600, 300": "SCENES, STEPS = 8, 2", "val=40": "val=3"}
    assert len(run_notebook(short, tmp_path)["counts"]) == 3


@pytest.mark.slow
def test_notebook(tmp_path: Path) -> None:
    """As it is, it learns something."""
    names = run_notebook({}, tmp_path)
    assert names["metrics"]["bbox/AP"] > 20
    assert names["metrics"]["sem_seg/mIoU"] > 20
