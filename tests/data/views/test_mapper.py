"""Samples have the views and targets that tasks read and records have, and nothing else."""

from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from tests.modeling.factory import default_config
from yolor_d2.data.files.semantic_files import write_index_png
from yolor_d2.data.views.mapper import CaptionOptions, MultiTaskMapper, known_targets
from yolor_d2.data.views.strong_view import Draw, StrongPolicy
from yolor_d2.data.views.targets import TargetStrides
from yolor_d2.data.views.transforms import ViewPolicy
from yolor_d2.errors import BadFileError
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
    return Draw(np.random.default_rng(seed), repeat(record), mosaic)


COMMON = {"file_name", "image_id", "height", "width"}
STRONG = {"image", "instances", "mask_stride", "sem_seg", "sem_seg_stride"}


@pytest.mark.parametrize(
    ("tasks", "weak", "expected"),
    [
        (TASKS, ("caption",), {*STRONG, "weak_image", "caption_ids"}),
        (TASKS, (), {*STRONG, "caption_ids"}),
        (
            TASKS,
            ("semantic", "caption"),
            {
                *("image", "instances", "mask_stride", "caption_ids"),
                *("weak_image", "weak_sem_seg", "weak_sem_seg_stride"),
            },
        ),
        (
            TASKS,
            TASKS,
            {*(f"weak_{key}" for key in STRONG), "caption_ids"},
        ),
        (("detection",), ("caption",), {"image", "instances"}),
        (("caption",), ("caption",), {"weak_image", "caption_ids"}),
        (("semantic",), ("semantic",), {"weak_image", "weak_sem_seg", "weak_sem_seg_stride"}),
    ],
)
def test_keys_follow_tasks_and_views(
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
        ("annotations", {"instances", "mask_stride"}),
        ("sem_seg_file_name", {"sem_seg", "sem_seg_stride"}),
        ("captions", {"caption_ids"}),
    ],
)
def test_unknown_targets_are_missing(
    record: Record, tokenizer: Tokenizer, without: str, missing: set[str]
) -> None:
    less = {k: v for k, v in record.items() if k != without}
    complete = mapper(tokenizer)(record, draw_of(record))
    item = mapper(tokenizer)(less, draw_of(less))
    assert set(complete) - set(item) == missing


def test_grouped_settings_in_both_configuration_systems() -> None:
    cfg = default_config("INPUT.MASK_STRIDE", 2, "INPUT.CAPTIONS_PER_IMAGE", 3)
    from_yaml = MultiTaskMapper(cfg, is_train=True, tokenizer=Tokenizer.train(["a"], vocab_size=9))
    node = L(MultiTaskMapper)(
        is_train=False,
        tasks=["detection"],
        strides=L(TargetStrides)(mask=2),
        captions=L(CaptionOptions)(per_image=3),
    )
    for made in (from_yaml, instantiate(node)):
        assert made.strides == TargetStrides(mask=2, sem_seg=4)
        assert made.captions == CaptionOptions(max_tokens=40, per_image=3)


@pytest.mark.parametrize("prefix", ["", "weak_"])
def test_strides(record: Record, tokenizer: Tokenizer, prefix: str) -> None:
    options = {"strides": TargetStrides(mask=2, sem_seg=8), "weak_size": 64}
    make = mapper(tokenizer, weak_view_tasks=TASKS if prefix else (), **options)
    item = make(record, draw_of(record))
    height, width = item[f"{prefix}image"].shape[1:]
    assert item[f"{prefix}mask_stride"] == 2
    assert item[f"{prefix}sem_seg_stride"] == 8
    masks = item[f"{prefix}instances"].gt_masks.tensor
    assert masks.shape[1:] == (-(-height // 2), -(-width // 2))
    assert item[f"{prefix}sem_seg"].shape == (-(-height // 8), -(-width // 8))
    boxes_only = [
        {k: v for k, v in a.items() if k != "segmentation"} for a in record["annotations"]
    ]
    item = make({**record, "annotations": boxes_only}, draw_of(record))
    assert f"{prefix}instances" in item
    assert f"{prefix}mask_stride" not in item


def test_known_targets(record: Record) -> None:
    assert known_targets(record) == frozenset(TASKS)
    shapeless = [{k: v for k, v in a.items() if k != "segmentation"} for a in record["annotations"]]
    boxes_only = {**record, "annotations": shapeless}
    assert "mask" not in known_targets(boxes_only)
    assert known_targets({**record, "annotations": [], "has_masks": False}).isdisjoint({"mask"})
    assert known_targets({"captions": []}) == frozenset()


def test_the_weak_view_is_only_resized(record: Record, tokenizer: Tokenizer) -> None:
    """Its targets are resized exactly."""
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
    assert (masks.any(dim=0) & ~inside).sum() < 0.25 * inside.sum()  # the border is filled
    assert (inside & ~masks.any(dim=0)).sum() == 0
    labels = item["weak_sem_seg"]
    assert labels.shape == (12, 20)
    assert (labels[inside] < 2).all()


def test_sides_not_divisible_by_the_stride(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Cells with their center outside of the image are ignored."""
    record = make_record(
        tmp_path, "odd", width=79, height=33, boxes=[(0, 0, 79, 33)], captions=["a"]
    )
    item = mapper(tokenizer, weak_view_tasks=TASKS, weak_size=79)(record, draw_of(record))
    assert item["weak_image"].shape == (3, 33, 79)
    assert item["weak_sem_seg"].shape == (9, 20)
    assert (item["weak_sem_seg"][-1] == 255).all()  # its centers are at 34
    assert (item["weak_sem_seg"][:-1] == 0).all()


def test_types_and_sizes(record: Record, tokenizer: Tokenizer) -> None:
    item = mapper(tokenizer)(record, draw_of(record))
    assert item["image"].shape == (3, 64, 64)
    assert item["image"].dtype == item["weak_image"].dtype == torch.uint8
    assert item["sem_seg"].shape == (16, 16)
    assert item["sem_seg"].dtype == item["caption_ids"].dtype == torch.int64
    assert item["instances"].image_size == (64, 64)
    assert item["instances"].gt_masks.tensor.shape[1:] == (16, 16)
    full = mapper(tokenizer, strides=TargetStrides(1, 1))(record, draw_of(record))
    assert full["sem_seg"].shape == (64, 64)
    assert full["instances"].gt_masks.tensor.shape[1:] == (64, 64)


def test_same_seed_same_sample(record: Record, tokenizer: Tokenizer) -> None:
    """With and without a cache, cold or warm."""
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


def test_cut_captions_keep_begin_and_end(record: Record, tokenizer: Tokenizer) -> None:
    item = mapper(tokenizer, captions=CaptionOptions(max_tokens=6))(record, draw_of(record))
    ids = item["caption_ids"][0]
    assert len(ids) == 6
    assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)


@pytest.mark.parametrize(
    ("wanted", "given"), [(1, 1), (2, 2), (0, len(CAPTIONS)), (99, len(CAPTIONS))]
)
def test_several_captions_of_an_image(
    record: Record, tokenizer: Tokenizer, wanted: int, given: int
) -> None:
    make = mapper(tokenizer, captions=CaptionOptions(per_image=wanted))
    item = make(record, draw_of(record))
    texts = [tokenizer.decode(ids) for ids in item["caption_ids"]]
    known = [tokenizer.decode(tokenizer.encode(caption)) for caption in CAPTIONS]
    assert len(texts) == len(set(texts)) == given
    assert set(texts) <= set(known)


def test_captions_vary_with_the_seed(record: Record, tokenizer: Tokenizer) -> None:
    make = mapper(tokenizer)
    items = [make(record, draw_of(record, seed)) for seed in range(30)]
    texts = {tokenizer.decode(item["caption_ids"][0]) for item in items}
    assert texts == {tokenizer.decode(tokenizer.encode(caption)) for caption in CAPTIONS}


def test_a_record_alone_makes_a_sample(record: Record, tokenizer: Tokenizer) -> None:
    """detectron2's own loaders call mappers this way."""
    item = mapper(tokenizer)(record)
    assert item["image"].shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("missing", "No such file"), ("size", r"is \(10, 10\)"), ("label", "has label 200, of 6")],
)
def test_unusable_semantic_map(
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
        ({"strong": POLICY._replace(size=66)}, r"INPUT\.STRONG\.SIZE 66 is not a multiple"),
        ({"strong": POLICY._replace(mixup=15)}, r"INPUT\.STRONG\.MIXUP must be between 0 and 1"),
        ({"strong": POLICY._replace(view=ViewPolicy(scale=1.5))}, r"INPUT\.STRONG\.SCALE"),
        ({"test_size": 0}, r"INPUT\.TEST_SIZE must be positive"),
        ({"captions": CaptionOptions(per_image=-1)}, r"INPUT\.CAPTIONS_PER_IMAGE is -1"),
    ],
)
def test_invalid_settings_name_the_key(
    tokenizer: Tokenizer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mapper(**{"tokenizer": tokenizer, **options})


def test_extreme_images(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """One pixel; thin strips; objects outside, of zero size, larger than the image."""
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


def test_gray_files(tmp_path: Path, tokenizer: Tokenizer) -> None:
    record = make_record(tmp_path, "gray", width=40, height=30, captions=["a"])
    cv2.imwrite(record["file_name"], np.full((30, 40), 77, np.uint8))
    item = mapper(tokenizer)(record, draw_of(record))
    assert (item["weak_image"] == 77).all()
