"""Samples for the validation loss have all targets and no randomness."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tests.randomness import randomness
from yolor_d2.data.loading.build import build_tokenizer
from yolor_d2.data.loading.validation import PlainViews, build_validation_loader
from yolor_d2.data.views.mapper import MultiTaskMapper

from ..factory import Record
from . import Register, assert_same, config

SIZE = 32


@pytest.fixture
def name(register: Register) -> str:
    register("plain_train")
    register("plain_test")
    return "plain_test"


def samples(output: Path, name: str, **options: int) -> list[Record]:
    cfg = config(output, "plain_train")
    tokenizer = build_tokenizer(cfg)
    loader = build_validation_loader(cfg, name, tokenizer=tokenizer, **options)
    return list(chain.from_iterable(loader))


def test_each_image_once_and_always_the_same(name: str, tmp_path: Path) -> None:
    before = randomness()
    first, second = samples(tmp_path, name), samples(tmp_path, name, batch_size=4)
    after = randomness()

    assert [item["image_id"] for item in first] == [f"{name}{k}" for k in range(30)]
    assert_same(first, second)
    assert before == after


def test_views_show_the_whole_image_with_its_targets(
    name: str, register: Register, tmp_path: Path
) -> None:
    records = register("plain_other")
    for item, record in zip(samples(tmp_path, "plain_other"), records, strict=True):
        x, y, width, height = record["annotations"][0]["bbox"]
        scale, top = SIZE / 64, (SIZE - 24) // 2  # 64 x 48 pixels, letterboxed
        box = np.array([x, y, x + width, y + height]) * scale + [0, top, 0, top]
        found = item["instances"].gt_boxes.tensor.numpy()
        np.testing.assert_allclose(found, [box], atol=0.51)
        assert item["image"].shape == (3, SIZE, SIZE)
        assert (item["image"][:, :top] == 114).all()
        content = item["image"][:, top:-top]
        difference = content.float() - item["weak_image"].float()
        assert difference.abs().mean() < 4  # not mirrored, moved or recolored
        assert set(item["sem_seg"].unique().tolist()) == {0, 5, 255}


def test_the_first_caption_is_used(name: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(config(tmp_path, "plain_train"))
    texts = [tokenizer.decode(item["caption_ids"][0]) for item in samples(tmp_path, name)]
    assert texts == [f"image {k}" for k in range(30)]


@pytest.mark.parametrize(("limit", "expected"), [(3, [0, 10, 20]), (1, [0]), (99, range(30))])
def test_fewer_images_are_spread_evenly(
    name: str, tmp_path: Path, limit: int, expected: list[int]
) -> None:
    found = samples(tmp_path, name, max_images=limit)
    assert [item["image_id"] for item in found] == [f"{name}{k}" for k in expected]


def test_the_training_mapper_is_not_changed(name: str, tmp_path: Path) -> None:
    cfg = config(tmp_path, "plain_train")
    mapper = MultiTaskMapper(cfg, is_train=True, tokenizer=build_tokenizer(cfg))
    policy, reader = mapper.strong_view.policy, mapper.reader
    PlainViews(mapper)
    assert mapper.strong_view.policy == policy
    assert mapper.reader is mapper.strong_view.reader is reader


def test_bad_files_are_left_out(register: Register, tmp_path: Path) -> None:
    register("plain_train")
    records = register("plain_damaged", number=25)
    Path(records[4]["file_name"]).write_text("no image")
    found = samples(tmp_path, "plain_damaged")
    assert len(found) == 24
    assert records[4]["file_name"] in (tmp_path / "bad_files_plain_damaged.txt").read_text()


def test_detectron2_mappers_are_refused(name: str, tmp_path: Path) -> None:
    cfg = config(tmp_path, "plain_train", INPUT__DATASET_MAPPER_NAME="detectron2")
    with pytest.raises(ValueError, match=r"TEST.LOSS_PERIOD needs INPUT.DATASET_MAPPER_NAME"):
        build_validation_loader(cfg, name)
