"""Windows partition the output, and their matrices are exact."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yolor_d2.data.views.mosaic import (
    MAX_PASTE_COVER,
    choose_pastes,
    place_centered,
    place_in_mosaic,
    reduction_for,
    visible_window,
)
from yolor_d2.data.views.targets import move_boxes
from yolor_d2.data.views.transforms import ViewPolicy, compose, random_view

SIZE = 128


def move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) map to points of shape (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def random_windows(seed: int) -> list:
    """Return the four windows of a random mosaic; None for invisible images."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(SIZE / 2, 3 * SIZE / 2, 2)
    view = random_view(rng, ViewPolicy(), canvas_size=2 * SIZE, size=SIZE)
    sizes = rng.integers(1, 300, (4, 2))
    placements = [
        place_in_mosaic(width=int(w), height=int(h), position=k, center=center, tile_size=SIZE)
        for k, (w, h) in enumerate(sizes)
    ]
    return [
        (visible_window(p, view, size=SIZE), p, view, size)
        for p, size in zip(placements, sizes, strict=True)
    ]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6))
def test_windows_do_not_overlap(seed: int) -> None:
    painted = np.zeros((SIZE, SIZE), int)
    for window, *_ in random_windows(seed):
        if window is not None:
            x0, y0, x1, y1 = window.target
            painted[y0:y1, x0:x1] += 1
    assert painted.max() <= 1


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6))
@example(51353)  # a window of one pixel that is enlarged more than 20 times
def test_a_window_maps_source_onto_target(seed: int) -> None:
    """Snapping moves a window by at most a pixel and a half."""
    for window, placement, view, size in random_windows(seed):
        if window is None:
            continue
        assert window.is_upright
        mapped = move_boxes(np.array([window.source]), window.matrix)[0]
        np.testing.assert_allclose(mapped, window.target, atol=1e-9)
        assert all(v % window.reduction == 0 for v in window.source)
        assert (np.array(window.source[2:]) < size + window.reduction).all()
        ideal = move_points(move_points(np.array(window.source[:2]), placement.matrix), view)
        exact = compose(view, placement.matrix)
        scale = window.reduction * np.abs(exact[[0, 1], [0, 1]]).max()
        shown = np.diff(np.array(window.source).reshape(2, 2), axis=0) / window.reduction
        # A window of one pixel cannot be snapped closer.
        share = 1 if shown.min() <= 1 else 0.5
        assert np.abs(ideal - window.target[:2]).max() <= 0.5 + share * max(scale, 1) + 1e-6


def test_a_mosaic_without_zoom_shows_each_image_at_its_corner() -> None:
    view = np.array([[1.0, 0, -SIZE / 2], [0, 1, -SIZE / 2]])
    targets = []
    for position in range(4):
        placement = place_in_mosaic(
            width=200,
            height=100,
            position=position,
            center=np.array([100.0, 140.0]),
            tile_size=SIZE,
        )
        window = visible_window(placement, view, size=SIZE)
        assert window is not None
        targets.append(window.target)
    assert targets == [(0, 12, 36, 76), (36, 12, 128, 76), (0, 76, 36, 128), (36, 76, 128, 128)]


def test_single_image_is_letterboxed() -> None:
    placement = place_centered(width=200, height=100, tile_size=SIZE)
    window = visible_window(placement, np.eye(3)[:2], size=SIZE)
    assert window is not None
    assert window.target == (0, 32, 128, 96)
    assert window.source == (0, 0, 200, 100)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1.9, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 4), (0.12, 8), (0.01, 8)],
)
def test_reduction_never_enlarges(scale: float, expected: int) -> None:
    assert reduction_for(np.diag([scale, scale, 1])[:2]) == expected
    assert reduction_for(np.diag([-scale, scale / 2, 1])[:2]) == expected


def test_rotated_views_are_not_snapped() -> None:
    view = random_view(
        np.random.default_rng(0), ViewPolicy(degrees=20, shear=5), canvas_size=SIZE, size=SIZE
    )
    window = visible_window(place_centered(width=90, height=60, tile_size=SIZE), view, size=SIZE)
    assert window is not None
    assert not window.is_upright


def test_view_statistics() -> None:
    """Scale uniform in 0.1..1.9; the canvas center lands at 0.4..0.6 of the output."""
    rng = np.random.default_rng(0)
    views = [random_view(rng, ViewPolicy(), canvas_size=200, size=100) for _ in range(500)]
    scales = np.array([view[0, 0] for view in views])
    assert scales.min() >= 0.1
    assert scales.max() <= 1.9
    assert scales.mean() == pytest.approx(1, abs=0.08)
    centers = np.array([move_points(np.array([100.0, 100.0]), view) for view in views])
    assert centers.min() >= 40
    assert centers.max() <= 60


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 200))
def test_pastes_hide_little(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (number, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 60, (number, 2))], axis=1)
    chosen = choose_pastes(boxes, side=256, share=0.3, rng=rng)
    assert len(chosen) == len(set(chosen)) <= round(0.3 * number)
    mirrored = boxes[chosen][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [256, 0, 256, 0]
    for number, box in enumerate(np.concatenate([boxes, mirrored])):
        later = mirrored[max(number - len(boxes) + 1, 0) :]  # pasted over it
        overlap = np.minimum(later[:, 2:], box[2:]) - np.maximum(later[:, :2], box[:2])
        hidden = overlap.clip(0).prod(axis=1).sum() / (box[2:] - box[:2]).prod()
        assert hidden < MAX_PASTE_COVER + 1e-9


def test_number_of_pastes() -> None:
    """Without overlaps, the requested share is chosen."""
    boxes = np.array([[10.0 * k, 10.0 * k, 10 * k + 8, 10 * k + 8] for k in range(100)])
    assert len(choose_pastes(boxes, side=4000, share=0.3, rng=np.random.default_rng(0))) == 30
    assert choose_pastes(boxes[:0], side=4000, share=0.3, rng=np.random.default_rng(0)) == []
