"""Pictures of predictions and annotations."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances

from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.data import build_tokenizer
from yolor_d2.errors import ConfigError, line_of
from yolor_d2.model_zoo import get_config_file, load_config
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.reports.ground_truth import record_image, true_result
from yolor_d2.reports.predictions import compare, compare_all
from yolor_d2.tools.draw_predictions import main
from yolor_d2.visualization import BACKGROUND, IMAGE_PANEL, PANELS, draw_panels, draw_results

CONFIG = get_config_file("toy/yolor_elan_n_toy.yaml")


@pytest.fixture
def record(scenes: str) -> dict[str, Any]:
    return next(r for r in DatasetCatalog.get(scenes) if len(r["annotations"]) > 1)


def test_annotations_change_every_kind_of_picture(scenes: str, record: dict[str, Any]) -> None:
    """No picture is the plain image, and no two pictures are equal."""
    image = record_image(record)
    truth = draw_panels(image, true_result(record), MetadataCatalog.get(scenes))
    assert list(truth) == [IMAGE_PANEL, *PANELS]
    plain = draw_results(image, {}, None)
    changed = [(truth[kind] != plain).any(axis=2).mean() for kind in PANELS]
    assert 0.01 < changed[0] < 0.9
    assert min(changed[1:]) > 0.9  # every pixel has a class and a segment
    assert len({picture.tobytes() for picture in truth.values()}) == len(truth)
    height = plain.shape[0]
    np.testing.assert_array_equal(truth[IMAGE_PANEL][:height], plain)
    assert (truth[IMAGE_PANEL][height:] < 100).any()  # the captions


def test_perfect_predictions_look_like_annotations(scenes: str, record: dict[str, Any]) -> None:
    metadata, image, truth = MetadataCatalog.get(scenes), record_image(record), true_result(record)
    found = {**truth, "instances": Instances(truth["instances"].image_size)}
    for key, value in truth["instances"].get_fields().items():
        found["instances"].set(key, value)
    found["instances"].scores = torch.linspace(0.9, 0.6, len(found["instances"]))

    true_pictures = draw_panels(image, truth, metadata)
    found_pictures = draw_panels(image, found, metadata)
    objects, *maps = PANELS
    for kind in maps:
        np.testing.assert_array_equal(found_pictures[kind], true_pictures[kind])
    differs = (found_pictures[objects] != true_pictures[objects]).any(axis=2)
    assert 0 < differs.mean() < 0.1  # scores are drawn at the boxes


def test_an_empty_test_set_is_an_error(
    scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--config-file", CONFIG, "--output", str(tmp_path)]
    assert main([*where, *options(scenes, tmp_path), "DATASETS.TEST", "()"]) == 2
    error = capsys.readouterr().err
    problem = "on the command line: DATASETS.TEST is empty: there is nothing to draw"
    line = line_of(ConfigError(problem))
    assert error == f"python -m yolor_d2.tools.draw_predictions: {line}\n"


def test_missing_pictures_are_gaps() -> None:
    black = np.zeros((30, 200, 3), np.uint8)
    picture = compare(
        {"boxes, masks": black, IMAGE_PANEL: black},
        {"semantic map": black, IMAGE_PANEL: black},
    )
    columns = [(picture[:, at : at + 200] == 0).all(axis=2).sum() for at in (0, 208, 416)]
    assert columns == [12000, 6000, 6000]
    assert (picture[-20, 208:408] == BACKGROUND).all()  # no objects are predicted


def test_no_captions_and_no_class_names_are_an_error(record: dict[str, Any]) -> None:
    without = {key: value for key, value in record.items() if key != "captions"}
    results = compare_all(
        lambda batch: [{}],
        [without],
        records={record["file_name"]: without},
        metadata=SimpleNamespace(),
        threshold=0.5,
    )
    with pytest.raises(ValueError, match="nothing to draw: neither captions nor class names"):
        next(results)


def options(scenes: str, weights: Path) -> list[str]:
    return [
        *("DATASETS.TRAIN", f"('{scenes}',)", "DATASETS.TEST", f"('{scenes}',)"),
        *("MODEL.YOLOR_ELAN.WIDTH", "0.125", "MODEL.YOLOR_ELAN.DEPTH", "0.25"),
        *("MODEL.CAPTION_HEAD.DIM", "32", "MODEL.CAPTION_HEAD.NUM_HEADS", "2"),
        *("MODEL.CAPTION_HEAD.FFN_DIM", "64", "INPUT.TEST_SIZE", "96"),
        *("DATALOADER.NUM_WORKERS", "0", "MODEL.WEIGHTS", str(weights)),
    ]


@pytest.fixture
def weights(scenes: str, tmp_path: Path) -> Path:
    """A checkpoint of an untrained network."""
    cfg = load_config(CONFIG, [*options(scenes, tmp_path), "MODEL.DEVICE", "cpu"])
    tokenizer = build_tokenizer(cfg)
    tokenizer.save(tmp_path / "tokenizer.model")
    cfg.TOKENIZER.MODEL = str(tmp_path / "tokenizer.model")
    proto = torch.frombuffer(bytearray(tokenizer.model_proto), dtype=torch.uint8)
    path = tmp_path / "model.pth"
    save_checkpoint({"model": YOLOR(cfg).state_dict(), "tokenizer": proto}, path)
    return path


def test_pictures_of_a_checkpoint(
    scenes: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pictures"
    where = ["--config-file", CONFIG, "--output", str(output), "--number", "2"]
    assert main([*where, "--score-threshold", "0.001", *options(scenes, weights)]) == 0
    pictures = [cv2.imread(str(path)) for path in sorted(output.glob("*.png"))]
    assert len(pictures) == 2
    assert all(picture.std() > 10 for picture in pictures)
    assert "2 pictures are in" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["", "nothing.pth"])
def test_errors_are_one_line(
    scenes: str, tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--config-file", CONFIG, "--output", str(tmp_path)]
    assert main([*where, *options(scenes, Path(missing))[:-1], missing]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("python -m yolor_d2.tools.draw_predictions: ")
    assert (missing or "MODEL.WEIGHTS") in error
