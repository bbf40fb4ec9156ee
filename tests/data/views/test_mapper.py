"""Samples: the views and targets that tasks ask for and records have, nothing else."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from yolor_d2.data.errors import BadFileError
from yolor_d2.data.files.semantic_files import write_index_png
from yolor_d2.data.views.mapper import MultiTaskMapper, known_targets
from yolor_d2.data.views.strong_view import Draw, StrongPolicy
from yolor_d2.data.views.transforms import ViewPolicy
from yolor_d2.tokenizer import Tokenizer

from ..factory import Record, annotation, make_record

TASKS = ("detection", "mask", "semantic", "caption")
CAPTIONS = ["a red box is left of a ball", "two boxes on the grass", "nothing but a small box"]
POLICY = StrongPolicy(size=64)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, vocab_size=100)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    boxes = [(5.0, 5.0, 40.0, 30.0), (50.0, 10.0, 90.0, 55.0)]
    return make_record(tmp_path, "r", width=100, height=60, boxes=boxes, captions=CAPTIONS)


def mapper(tokenizer: Tokenizer, **options: Any) -> MultiTaskMapper:
    defaults: dict[str, Any] = {
        "is_train": True,
        "tasks": TASKS,
        "strong": POLICY,
        "weak_size": 80,
        "test_size": 80,
        "tokenizer": tokenizer,
    }
    return MultiTaskMapper(**(defaults | options))


def draw_of(record: Record, seed: int = 0, mosaic: bool = True) -> Draw:
    return Draw(np.random.default_rng(seed), lambda rng: record, mosaic)


COMMON = {"file_name", "image_id", "height", "width"}


@pytest.mark.parametrize(
    ("tasks", "weak", "expected"),
    [
        (TASKS, ("caption",), {"image", "instances", "sem_seg", "weak_image", "caption_ids"}),
        (TASKS, (), {"image", "instances", "sem_seg", "caption_ids"}),
        (
            TASKS,
            ("semantic", "caption"),
            {"image", "instances", "weak_image", "weak_sem_seg", "caption_ids"},
        ),
        (
            TASKS,
            TASKS,
            {"weak_image", "weak_instances", "weak_sem_seg", "caption_ids"},
        ),
        (("detection",), ("caption",), {"image", "instances"}),
        (("caption",), ("caption",), {"weak_image", "caption_ids"}),
        (("semantic",), ("semantic",), {"weak_image", "weak_sem_seg"}),
    ],
)
def test_only_what_is_asked_for(
    record: Record, tokenizer: Tokenizer, tasks: tuple, weak: tuple, expected: set[str]
) -> None:
    item = mapper(tokenizer, tasks=tasks, weak_view_tasks=weak)(record, draw_of(record))
    assert set(item) - COMMON == expected
    for name in ("instances", "weak_instances"):
        if name in item:
            assert item[name].has("gt_masks") == ("mask" in tasks)


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ("annotations", {"instances"}),
        ("sem_seg_file_name", {"sem_seg"}),
        ("captions", {"caption_ids"}),
    ],
)
def test_a_missing_target_is_missing(
    record: Record, tokenizer: Tokenizer, without: str, missing: set[str]
) -> None:
    less = {k: v for k, v in record.items() if k != without}
    complete = mapper(tokenizer)(record, draw_of(record))
    item = mapper(tokenizer)(less, draw_of(less))
    assert set(complete) - set(item) == missing


def test_known_targets(record: Record) -> None:
    assert known_targets(record) == frozenset(TASKS)
    shapeless = [{k: v for k, v in a.items() if k != "segmentation"} for a in record["annotations"]]
    boxes_only = {**record, "annotations": shapeless}
    assert "mask" not in known_targets(boxes_only)
    assert known_targets({**record, "annotations": [], "has_masks": False}).isdisjoint({"mask"})
    assert known_targets({"captions": []}) == frozenset()


def test_the_weak_view_is_only_resized(record: Record, tokenizer: Tokenizer) -> None:
    """And its targets with it, exactly."""
    make = mapper(tokenizer, weak_view_tasks=TASKS)
    items = [make(record, draw_of(record, seed)) for seed in range(3)]
    for item in items:
        torch.testing.assert_close(item["weak_image"], items[0]["weak_image"])
    item = items[0]
    assert item["weak_image"].shape == (3, 48, 80)
    boxes = item["weak_instances"].gt_boxes.tensor
    torch.testing.assert_close(boxes, torch.tensor([[4.0, 4, 32, 24], [40, 8, 72, 44]]))
    masks = item["weak_instances"].gt_masks.tensor
    assert masks.shape == (2, 12, 20)
    inside = item["weak_image"][0].reshape(12, 4, 20, 4)[:, 1:3, :, 1:3].amin(dim=(1, 3)) > 150
    assert (masks.any(dim=0) & ~inside).sum() < 0.25 * inside.sum()  # the rim is filled
    assert (inside & ~masks.any(dim=0)).sum() == 0
    labels = item["weak_sem_seg"]
    assert labels.shape == (12, 20)
    assert (labels[inside] < 2).all()


def test_sides_that_are_no_multiple_of_the_stride(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """The last cells stick out of the image; those with their centre outside are ignored."""
    record = make_record(
        tmp_path, "odd", width=79, height=33, boxes=[(0, 0, 79, 33)], captions=["a"]
    )
    item = mapper(tokenizer, weak_view_tasks=TASKS, weak_size=79)(record, draw_of(record))
    assert item["weak_image"].shape == (3, 33, 79)
    assert item["weak_sem_seg"].shape == (9, 20)
    assert (item["weak_sem_seg"][-1] == 255).all()  # its centres are at 34
    assert (item["weak_sem_seg"][:-1] == 0).all()


def test_types_and_sizes(record: Record, tokenizer: Tokenizer) -> None:
    item = mapper(tokenizer)(record, draw_of(record))
    assert item["image"].shape == (3, 64, 64)
    assert item["image"].dtype == item["weak_image"].dtype == torch.uint8
    assert item["sem_seg"].shape == (16, 16)
    assert item["sem_seg"].dtype == item["caption_ids"].dtype == torch.int64
    assert item["instances"].image_size == (64, 64)
    assert item["instances"].gt_masks.tensor.shape[1:] == (16, 16)
    full = mapper(tokenizer, mask_stride=1, sem_seg_stride=1)(record, draw_of(record))
    assert full["sem_seg"].shape == (64, 64)
    assert full["instances"].gt_masks.tensor.shape[1:] == (64, 64)


def test_same_seed_same_sample(record: Record, tokenizer: Tokenizer) -> None:
    """Also with a cache, cold or warm."""
    plain, cached = mapper(tokenizer), mapper(tokenizer, cache_bytes=1 << 20)
    captions = set()
    for seed in range(12):
        first, *others = [m(record, draw_of(record, seed)) for m in (plain, cached, cached, plain)]
        captions.add(tuple(first["caption_ids"][0].tolist()))
        for other in others:
            for key in ("image", "weak_image", "sem_seg", "caption_ids"):
                assert torch.equal(first[key], other[key])
            mine, theirs = first["instances"], other["instances"]
            assert torch.equal(mine.gt_boxes.tensor, theirs.gt_boxes.tensor)
            assert torch.equal(mine.gt_masks.tensor, theirs.gt_masks.tensor)
    assert len(captions) == len(CAPTIONS)  # drawn from the sample's seed


def test_bgr(record: Record, tokenizer: Tokenizer) -> None:
    rgb = mapper(tokenizer)(record, draw_of(record))
    bgr = mapper(tokenizer, image_format="BGR")(record, draw_of(record))
    for name in ("image", "weak_image"):
        assert torch.equal(rgb[name].flip(0), bgr[name])
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT"):
        mapper(tokenizer, image_format="XYZ")


def test_test_items(record: Record, tokenizer: Tokenizer) -> None:
    item = mapper(tokenizer, is_train=False)(record)
    assert item["image"].shape == (3, 48, 80)
    assert "annotations" not in item
    assert (item["height"], item["width"]) == (60, 100)
    assert item["captions"] == CAPTIONS
    assert "image" not in record  # the record itself is not changed


def test_captions_are_cut_with_their_end(record: Record, tokenizer: Tokenizer) -> None:
    ids = mapper(tokenizer, max_caption_tokens=6)(record, draw_of(record))["caption_ids"][0]
    assert len(ids) == 6
    assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)


@pytest.mark.parametrize(
    ("wanted", "given"), [(1, 1), (2, 2), (0, len(CAPTIONS)), (99, len(CAPTIONS))]
)
def test_several_captions_of_an_image(
    record: Record, tokenizer: Tokenizer, wanted: int, given: int
) -> None:
    item = mapper(tokenizer, captions_per_image=wanted)(record, draw_of(record))
    texts = [tokenizer.decode(ids) for ids in item["caption_ids"]]
    known = [tokenizer.decode(tokenizer.encode(caption)) for caption in CAPTIONS]
    assert len(texts) == len(set(texts)) == given
    assert set(texts) <= set(known)


def test_each_time_another_caption(record: Record, tokenizer: Tokenizer) -> None:
    make = mapper(tokenizer)
    items = [make(record, draw_of(record, seed)) for seed in range(30)]
    texts = {tokenizer.decode(item["caption_ids"][0]) for item in items}
    assert texts == {tokenizer.decode(tokenizer.encode(caption)) for caption in CAPTIONS}


def test_a_record_alone_makes_a_sample(record: Record, tokenizer: Tokenizer) -> None:
    """So that detectron2's own loaders can use the mapper."""
    item = mapper(tokenizer)(record)
    assert item["image"].shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("missing", "No such file"), ("size", r"is \(10, 10\)"), ("label", "has label 200, of 6")],
)
def test_a_semantic_map_that_cannot_be_used(
    record: Record, tokenizer: Tokenizer, damage: str, reason: str
) -> None:
    path = Path(record["sem_seg_file_name"])
    if damage == "missing":
        path.unlink()
    else:
        size = (10, 10) if damage == "size" else (60, 100)
        write_index_png(path, np.full(size, 200, np.uint8))
    with pytest.raises(BadFileError, match=reason) as caught:
        mapper(tokenizer, num_sem_seg_classes=6)(record, draw_of(record, mosaic=False))
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("detection", "depth")}, r"MODEL\.YOLOR\.TASKS has depth"),
        ({"tasks": ()}, r"MODEL\.YOLOR\.TASKS is empty"),
        ({"tasks": ("mask",)}, 'needs "detection"'),
        ({"weak_view_tasks": ("captions",)}, r"INPUT\.WEAK_VIEW_TASKS has captions"),
        ({"weak_view_tasks": ("mask",)}, r"INPUT\.WEAK_VIEW_TASKS must treat"),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"strong": POLICY._replace(size=66)}, r"INPUT\.STRONG\.SIZE 66 is no multiple"),
        ({"strong": POLICY._replace(mixup=15)}, r"INPUT\.STRONG\.MIXUP must be between 0 and 1"),
        ({"strong": POLICY._replace(view=ViewPolicy(scale=1.5))}, r"INPUT\.STRONG\.SCALE"),
        ({"test_size": 0}, r"INPUT\.TEST_SIZE must be positive"),
        ({"captions_per_image": -1}, r"INPUT\.CAPTIONS_PER_IMAGE is -1"),
    ],
)
def test_nonsense_names_the_key(
    tokenizer: Tokenizer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mapper(**{"tokenizer": tokenizer, **options})


def test_extreme_images(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """One pixel; a thin strip; objects outside, of no size, larger than the image."""
    for width, height in ((1, 1), (500, 2), (3, 400)):
        record = make_record(tmp_path, f"{width}", width=width, height=height, captions=["a"])
        record["annotations"] = [
            annotation(0, 0, width, height),
            annotation(-50, -50, -10, -10),
            annotation(0.2, 0.2, 0.2, 0.2),
            annotation(-1000, -1000, 2000, 2000),
        ]
        for seed in range(15):
            for mosaic in (True, False):
                make = mapper(tokenizer, strong=POLICY._replace(mixup=0.5))
                item = make(record, draw_of(record, seed, mosaic))
                boxes = item["instances"].gt_boxes.tensor
                assert (boxes[:, 2:] > boxes[:, :2]).all()
                assert len(item["instances"].gt_masks.tensor) == len(boxes)


def test_grey_and_rotated_files_go_through(tmp_path: Path, tokenizer: Tokenizer) -> None:
    record = make_record(tmp_path, "grey", width=40, height=30, captions=["a"])
    cv2.imwrite(record["file_name"], np.full((30, 40), 77, np.uint8))
    item = mapper(tokenizer)(record, draw_of(record))
    assert (item["weak_image"] == 77).all()
