"""Pictures of samples; the training data do not change."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.data.coco_files import restored_catalogs
from tests.data.factory import make_record
from tests.data.loading import assert_same, config
from tests.randomness import randomness
from yolor_d2.data import build_tokenizer, build_train_loader
from yolor_d2.data.views.targets import Objects
from yolor_d2.engine.hooks import draw_first_samples
from yolor_d2.engine.hooks.samples import label_summary

NAME = "drawn_train"
BOXES = [(4.0, 4, 30, 30), (30, 10, 60, 40)]


@pytest.fixture
def folder(tmp_path: Path):
    """A registered data set's folder."""
    records = [
        make_record(tmp_path, f"{k}", boxes=BOXES[: k % 3], captions=[f"image {k}"])
        for k in range(9)
    ]
    with restored_catalogs():
        DatasetCatalog.register(NAME, lambda: records)
        MetadataCatalog.get(NAME).set(
            thing_classes=["cat", "dog", "kite"],
            thing_colors=[(200, 0, 0), (0, 200, 0), (0, 0, 200)],
            stuff_classes=list("abcdef"),
            stuff_colors=[(40 * k, 90, 250 - 40 * k) for k in range(6)],
            sem_seg_root=str(tmp_path),
        )
        yield tmp_path


def draw(folder: Path, number: int = 3, **keys) -> torch.utils.data.DataLoader:
    cfg = config(folder, NAME, **keys)
    tokenizer = build_tokenizer(cfg)
    loader = build_train_loader(cfg, tokenizer=tokenizer)
    draw_first_samples(
        loader,
        folder / "samples",
        number=number,
        metadata=MetadataCatalog.get(NAME),
        tokenizer=tokenizer,
        image_format=cfg.INPUT.FORMAT,
    )
    return loader


def test_pictures_are_drawn(folder: Path) -> None:
    draw(folder)
    names = sorted(path.name for path in (folder / "samples").iterdir())
    assert names == ["labels.png", "sample_00.jpg", "sample_01.jpg", "sample_02.jpg"]
    assert all(cv2.imread(str(folder / "samples" / name)).std() > 10 for name in names)


@pytest.mark.parametrize("mapper", ["multitask", "detectron2"])
def test_training_data_are_unchanged(folder: Path, mapper: str) -> None:
    before = randomness()
    drawn = draw(folder, INPUT__DATASET_MAPPER_NAME=mapper)
    assert randomness() == before
    if mapper == "multitask":
        untouched = draw(folder, number=0)
        assert_same(next(iter(drawn)), next(iter(untouched)))
    assert len(list((folder / "samples").glob("sample*"))) == 3


def test_failure_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    MetadataCatalog.get(NAME).thing_colors[:] = ["no colour"] * 3
    draw(folder)
    assert "samples could not be drawn" in caplog.text
    assert (folder / "samples/labels.png").exists()


def test_labels_are_counted() -> None:
    def objects(classes: list[int], boxes: list[list[float]]) -> Objects:
        arrays = np.array(boxes, dtype=float).reshape(-1, 4), np.array(classes, dtype=int)
        return Objects(*arrays, segmentations=[None] * len(classes), width=100, height=50)

    images = [
        objects([2, 2, 0], [[0, 0, 50, 50], [0, 0, 50, 50], [0, 0, 10, 5]]),
        objects([], []),
        objects([2], [[50, 25, 100, 50]]),
    ]
    bars, sizes, crowds = label_summary(images, class_names=["cat", "dog", "kite"]).axes[:3]
    assert [bar.get_height() for bar in bars.patches] == [3, 1, 0]
    assert [label.get_text() for label in bars.get_xticklabels()] == ["kite", "cat", "dog"]
    assert np.nansum(sizes.collections[0].get_array()) == 4
    assert [bar.get_height() for bar in crowds.patches] == [1, 1, 0, 1]


def test_other_loaders_have_no_pictures(folder: Path) -> None:
    draw_first_samples(
        (batch for batch in [[]]),
        folder / "samples",
        number=2,
        metadata=MetadataCatalog.get(NAME),
        tokenizer=None,
    )
    assert not (folder / "samples").exists()
