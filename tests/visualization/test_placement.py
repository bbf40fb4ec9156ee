"""Labels are inside the picture and do not overlap."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yolor_d2.visualization.placement import around_box, around_point, place_labels

LABELS = st.lists(
    st.tuples(
        st.tuples(st.integers(1, 90), st.integers(1, 30)),  # size
        st.tuples(*[st.floats(-500, 1500)] * 4),  # box
        st.booleans(),  # label of an object or of a region
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, width=st.integers(1, 900), height=st.integers(1, 300))
def test_labels_are_inside_and_do_not_overlap(labels: list, width: int, height: int) -> None:
    sizes = [size for size, _, _ in labels]
    candidates = [
        around_box(np.array(box), size) if is_object else around_point(box[:2], size)
        for size, box, is_object in labels
    ]
    corners = place_labels(sizes, candidates, width=width, height=height)
    assert len(corners) == len(labels)
    coverage = np.zeros((height, width), int)
    for corner, (w, h) in zip(corners, sizes, strict=True):
        if corner is not None:
            x, y = corner
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
            coverage[y : y + h, x : x + w] += 1
    assert coverage.max(initial=0) <= 1
    fits = [w <= width and h <= height for w, h in sizes]
    assert not any(corner for corner, room in zip(corners, fits, strict=True) if not room)
    if any(fits):
        assert corners[fits.index(True)] is not None  # the first label that fits is always placed


def test_the_best_free_candidate_is_chosen() -> None:
    box = np.array([20.0, 40, 60, 80])
    size = (30, 10)
    candidates = [around_box(box, size)] * 3
    first, second, third = place_labels([size] * 3, candidates, width=200, height=200)
    assert first == (20, 30)  # above the box
    assert len({first, second, third}) == 3


def test_labels_at_the_border_move_inside() -> None:
    size = (30, 10)
    boxes = [np.array([-50.0, -20, 10, 10]), np.array([95.0, 45, 120, 80])]
    corners = place_labels(
        [size] * 2, [around_box(box, size) for box in boxes], width=100, height=50
    )
    assert corners == [(0, 0), (70, 35)]
