"""What a model finds is drawn like what is true, beside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.data import build_tokenizer
from yolor_d2.data.builtin import register_toy_scenes
from yolor_d2.data.images import read_image
from yolor_d2.data.semantic_files import read_index_png
from yolor_d2.data.targets import rasterize_all, read_objects
from yolor_d2.data.toy_scenes import generate_toy_scenes
from yolor_d2.model_zoo import get_config_file, load_config
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.structures import SemanticMap
from yolor_d2.tools.draw_predictions import compare, draw_predictions, main
from yolor_d2.tools.show_views import CAPTIONS, OBJECTS, PANOPTIC, SEMANTIC, draw_annotations
from yolor_d2.visualization import PAPER

CONFIG = get_config_file("toy/yolor_elan_n_toy.yaml")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("toys")
    generate_toy_scenes(root, train=6, val=1, width=160, height=120, progress=False)
    name = "toy_scenes_drawn"
    register_toy_scenes(name, root, "train")
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    MetadataCatalog.remove(f"{name}_panoptic")


def perfect_result(record: dict[str, Any]) -> dict[str, Any]:
    """What a model that knows the annotations would say."""
    size = {"width": record["width"], "height": record["height"]}
    objects = read_objects(record)
    outlines = [objects.outlines(index) for index in range(len(objects.classes))]
    instances = Instances((record["height"], record["width"]))
    instances.pred_boxes = Boxes(torch.from_numpy(objects.boxes).float())
    instances.pred_classes = torch.from_numpy(objects.classes)
    instances.scores = torch.linspace(0.9, 0.6, len(objects.classes))
    instances.pred_masks = torch.from_numpy(rasterize_all(outlines, **size, stride=1))
    labels = torch.from_numpy(read_index_png(record["sem_seg_file_name"]))
    colors = read_image(record["pan_seg_file_name"], **size).astype(int)
    return {
        "instances": instances,
        "sem_seg": SemanticMap(labels, num_classes=19),
        "panoptic_seg": (
            torch.from_numpy(colors @ [1, 256, 65536]),
            [{"id": s["id"], "category_id": s["category_id"]} for s in record["segments_info"]],
        ),
        "caption": record["captions"][0],
    }


@pytest.fixture
def record(scenes: str) -> dict[str, Any]:
    return next(r for r in DatasetCatalog.get(scenes) if len(r["annotations"]) > 1)


def test_perfect_predictions_look_like_annotations(scenes: str, record: dict[str, Any]) -> None:
    metadata = MetadataCatalog.get(scenes)
    truth = draw_annotations(record, metadata)
    found = draw_predictions(record, perfect_result(record), metadata, threshold=0.5)

    assert list(found) == list(truth) == [OBJECTS, SEMANTIC, PANOPTIC, CAPTIONS]
    np.testing.assert_array_equal(found[SEMANTIC], truth[SEMANTIC])
    np.testing.assert_array_equal(found[PANOPTIC], truth[PANOPTIC])
    differs = (found[OBJECTS] != truth[OBJECTS]).any(axis=2)
    assert 0 < differs.mean() < 0.1  # scores stand at the boxes
    height = found[CAPTIONS].shape[0]
    assert (found[CAPTIONS][: height - 10] == truth[CAPTIONS][: height - 10]).all()


def test_objects_below_the_threshold_are_left_out(scenes: str, record: dict[str, Any]) -> None:
    metadata, result = MetadataCatalog.get(scenes), perfect_result(record)
    image = draw_predictions(record, result, metadata, threshold=1.0)[OBJECTS]
    some = draw_predictions(record, result, metadata, threshold=0.8)[OBJECTS]
    every = draw_predictions(record, result, metadata, threshold=0.5)[OBJECTS]
    assert 0 < (some != image).mean() < (every != image).mean()


def test_data_that_know_captions_only_get_captions_only(record: dict[str, Any]) -> None:
    metadata = MetadataCatalog.get("no classes")
    found = draw_predictions(record, perfect_result(record), metadata, threshold=0.5)
    MetadataCatalog.remove("no classes")
    assert list(found) == [CAPTIONS]


def test_without_a_test_set_there_is_nothing_to_draw(
    scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--config-file", CONFIG, "--output", str(tmp_path)]
    assert main([*where, *options(scenes, tmp_path), "DATASETS.TEST", "()"]) == 2
    error = capsys.readouterr().err
    assert error == "draw_predictions: DATASETS.TEST is empty: there is nothing to draw\n"


def test_what_one_side_lacks_is_a_gap() -> None:
    black = np.zeros((30, 40, 3), np.uint8)
    picture = compare({OBJECTS: black, CAPTIONS: black}, {SEMANTIC: black, OBJECTS: black})
    columns = [(picture[:, start : start + 40] == 0).all(axis=2).sum() for start in (0, 48, 96)]
    assert columns == [2400, 1200, 1200]
    assert (picture[-20, 96:136] == PAPER).all()  # no caption is predicted


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
    """A checkpoint of a network that has learnt nothing."""
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
    assert error.startswith("draw_predictions: ")
    assert (missing or "MODEL.WEIGHTS") in error
