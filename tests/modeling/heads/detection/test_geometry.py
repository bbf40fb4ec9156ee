"""Points and boxes, against numbers computed by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolor_d2.modeling.heads.detection.geometry import (
    boxes_to_distances,
    distances_to_boxes,
    expected_distances,
    level_points,
)

CPU = torch.device("cpu")
SIDE = st.floats(-1000, 1000, allow_nan=False)
FOUR = st.tuples(SIDE, SIDE, SIDE, SIDE)


def test_points_are_the_centers_of_cells_row_by_row() -> None:
    points, strides = level_points([(2, 3), (1, 2)], [8, 16], dtype=torch.float32, device=CPU)

    fine = [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert points.tolist() == [*fine, [8, 8], [24, 8]]
    assert strides.tolist() == [8] * 6 + [16] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_have_the_requested_dtype(dtype) -> None:
    points, strides = level_points([(1, 1)], [4], dtype=dtype, device=CPU)
    assert points.dtype == strides.dtype == dtype


def test_sides_are_left_top_right_bottom() -> None:
    point, distances = torch.tensor([10.0, 20.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert distances_to_boxes(point, distances).tolist() == [9, 18, 13, 24]
    assert boxes_to_distances(point, torch.tensor([9.0, 18, 13, 24])).tolist() == [1, 2, 3, 4]


@given(FOUR, SIDE, SIDE)
def test_distances_convert_back_to_the_same_boxes(box, x, y) -> None:
    boxes, point = torch.tensor([box], dtype=torch.float64), torch.tensor([x, y]).double()
    converted = distances_to_boxes(point, boxes_to_distances(point, boxes))
    assert torch.allclose(converted, boxes, atol=1e-9)


def test_mean_of_a_uniform_distribution() -> None:
    assert expected_distances(torch.zeros(2, 3, 4 * 16)).tolist() == [[[7.5] * 4] * 3] * 2


def test_each_side_has_its_own_bins() -> None:
    bins = torch.full((4, 5), -1e4)
    bins[range(4), [3, 0, 4, 1]] = 0  # probability 1 for one bin of each side
    assert expected_distances(bins.flatten()).tolist() == [3, 0, 4, 1]


def test_mean_of_two_bins() -> None:
    bins = torch.tensor([0.25, 0.0, 0.75]).log().repeat(4)
    assert torch.allclose(expected_distances(bins), torch.full((4,), 1.5))
