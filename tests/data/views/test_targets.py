"""Clipping and rasterization against published numbers and slow reference code."""

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.structures import BoxMode
from hypothesis import given, settings
from hypothesis import strategies as st

from yolor_d2.data.views.targets import (
    box_areas,
    clip_outlines,
    clip_ring,
    decode_rle,
    move_boxes,
    outline_extent,
    rasterize_all,
    read_objects,
    read_outlines,
)
from yolor_d2.errors import DataError

from ..factory import annotation, rectangle


def area(ring: np.ndarray) -> float:
    """Shoelace formula."""
    x, y = ring.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def test_rasterization_equals_the_published_one(shared_dir: Path) -> None:
    golden = np.load(shared_dir / "golden/geometry.npz")
    for k in range(6):
        shape = [[golden[f"poly/{k}"]]]
        for stride in (1, 4):
            (mask,) = rasterize_all([shape], width=160, height=128, stride=stride)
            np.testing.assert_array_equal(mask, golden[f"poly/{k}_mask{stride}"])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_rasterizing_in_windows_is_exact(seed: int) -> None:
    """Only the object's own window is filled, with the same result."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-30, 160, (rng.integers(3, 9), 2)).astype(np.float32)
    shape = clip_outlines([[points]], (0, 0, 128, 96))
    (found,) = rasterize_all([shape], width=128, height=96, stride=4)
    (full,) = rasterize_all([shape], width=128, height=96, stride=1)
    center = full.reshape(24, 4, 32, 4)[:, 1:3, :, 1:3].sum(axis=(1, 3))
    np.testing.assert_array_equal(found, center >= 2)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6))
def test_clipping_a_convex_ring(seed: int) -> None:
    """The clipped ring is inside the rectangle, and its area agrees with a count of points."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    ring = np.stack([50 + 60 * np.cos(angles), 40 + 50 * np.sin(angles)], axis=1)
    ring = ring.astype(np.float32)
    rectangle_ = (10.0, 5.0, 70.0, 60.0)
    clipped = clip_ring(ring, rectangle_)
    if len(clipped):
        assert (clipped >= [10 - 1e-5, 5 - 1e-5]).all()
        assert (clipped <= [70 + 1e-5, 60 + 1e-5]).all()
    x, y = np.meshgrid(np.arange(10.1, 70, 0.2), np.arange(5.1, 60, 0.2))
    after = np.roll(ring, -1, axis=0)
    edges = after - ring
    sides = [
        edges[k, 0] * (y - ring[k, 1]) - edges[k, 1] * (x - ring[k, 0]) for k in range(len(ring))
    ]
    inside = np.all(np.array(sides) >= 0, axis=0)
    assert area(clipped) == pytest.approx(inside.sum() * 0.04, abs=8)


def test_clipping_edge_cases() -> None:
    square = np.array(rectangle(0, 0, 10, 10), np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(clip_ring(square, (-5, -5, 20, 20)), square)
    assert len(clip_ring(square, (20, 20, 30, 30))) == 0
    assert clip_outlines([[square]], (20, 20, 30, 30)) == []
    np.testing.assert_array_equal(
        outline_extent(clip_outlines([[square]], (4, -9, 99, 7))), [4, 0, 10, 7]
    )
    np.testing.assert_array_equal(outline_extent([]), np.zeros(4))


def test_parts_are_united_and_holes_are_kept() -> None:
    overlapping = read_outlines(
        [rectangle(0, 0, 20, 20), rectangle(8, 8, 30, 30)], width=40, height=40
    )
    (mask,) = rasterize_all([overlapping], width=40, height=40, stride=1)
    assert mask[15, 15]
    ring = np.zeros((40, 40), np.uint8, order="F")
    ring[5:35, 5:35] = 1
    ring[15:25, 15:25] = 0
    rle = mask_util.encode(ring)
    (found,) = rasterize_all(
        [read_outlines(rle, width=40, height=40)], width=40, height=40, stride=1
    )
    np.testing.assert_array_equal(found[ring == 1], True)
    assert not found[17:23, 17:23].any()


def test_run_lengths_compressed_or_not() -> None:
    mask = np.zeros((6, 5), np.uint8, order="F")
    mask[2:4, 1:3] = 1
    counts = {"size": [6, 5], "counts": [8, 2, 4, 2, 14]}
    for rle in (mask_util.encode(mask), counts):
        np.testing.assert_array_equal(decode_rle(rle, width=5, height=6), mask)
    with pytest.raises(DataError, match="size"):
        decode_rle(counts, width=6, height=5)


def test_objects_leave_out_crowds_and_empty_boxes() -> None:
    annotations = [
        annotation(5, 5, 20, 20, 1),
        {**annotation(0, 0, 30, 30, 2), "iscrowd": 1},
        annotation(7, 7, 7, 20, 3),  # no width
        annotation(-10, 40, 12, 70, 4),  # partly outside
        annotation(70, 10, 90, 20, 5),  # outside
        {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 6, "iscrowd": 0},
    ]
    objects = read_objects({"annotations": annotations, "width": 64, "height": 48})
    assert objects.classes.tolist() == [1, 4, 6]
    assert objects.boxes.tolist() == [[5, 5, 20, 20], [0, 40, 12, 48], [1, 2, 3, 4]]
    assert objects.segmentations[2] is None
    np.testing.assert_array_equal(outline_extent(objects.outlines(2)), [1, 2, 3, 4])
    empty = read_objects({"annotations": [], "width": 64, "height": 48})
    assert empty.boxes.shape == (0, 4)


def test_boxes_around_rotated_corners() -> None:
    quarter_turn = np.array([[0.0, -1, 100], [1, 0, 0]])
    moved = move_boxes(np.array([[10.0, 20, 30, 60]]), quarter_turn)
    assert moved.tolist() == [[40, 10, 80, 30]]
    assert box_areas(moved).tolist() == [800]
