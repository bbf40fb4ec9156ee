"""What the detection head finds: published numbers, suppression by class, order, settings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from ...golden import golden_arrays
from .cases import features_of, head_of, predictions_of, random_predictions

CANVAS = (64, 96)


def found_by(scores: list[list[float]], boxes: list[list[float]], **test_settings):
    """What a head of as many classes as scores finds at points with these boxes."""
    head = head_of(len(scores[0]), **test_settings)
    return head.find(torch.tensor(scores), torch.tensor(boxes), CANVAS)


@pytest.mark.parametrize(
    ("name", "test_settings"),
    [
        ("multi", {"score_thresh": 0.001, "nms_thresh": 0.7, "multi_label": True}),
        ("best", {"score_thresh": 0.25, "nms_thresh": 0.45, "multi_label": False}),
    ],
)
def test_the_published_suppression(shared_dir, name, test_settings) -> None:
    golden = golden_arrays(shared_dir)
    rows = torch.from_numpy(golden["64x96/pred"])[0].T  # (A, 116)
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)

    found = head_of(80, **test_settings).find(rows[:, 4:84], boxes, CANVAS)

    expected = golden[f"64x96/nms_{name}"]
    np.testing.assert_array_equal(found.pred_boxes.tensor, expected[:, :4])
    np.testing.assert_array_equal(found.scores, expected[:, 4])
    np.testing.assert_array_equal(found.pred_classes, expected[:, 5])
    assert torch.equal(boxes[found.point_index], found.pred_boxes.tensor)


def plainly_found(scores: Tensor, boxes: Tensor, iou: float) -> list[tuple[int, int]]:
    """Points and classes: class by class, then by score, point and class."""
    kept = []
    for number in range(scores.shape[1]):
        points = (scores[:, number] > 0.3).nonzero().flatten()
        best = points[nms(boxes[points].double(), scores[points, number].double(), iou)]
        kept += [(-float(scores[point, number]), int(point), number) for point in best]
    return [(point, number) for _, point, number in sorted(kept)]


@given(
    st.integers(0, 2**31),
    st.integers(1, 40),
    st.sampled_from([1, 3, 80]),
    st.floats(0.1, 0.9),
    st.sampled_from([50, 4000]),
)
@settings(max_examples=25, deadline=None)
def test_each_class_is_on_its_own(seed, number, classes, iou, side) -> None:
    """Boxes reach beyond the canvas, to the left of it too, and are up to 4,000 pixels away."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.rand(number, classes, generator=rng)
    first = torch.rand(number, 2, generator=rng) * side - 400
    boxes = torch.cat([first, first + torch.rand(number, 2, generator=rng) * 60 + 10], dim=1)
    head = head_of(classes, score_thresh=0.3, nms_thresh=iou, detections_per_image=10**6)

    found = head.find(scores, boxes, CANVAS)

    pairs = list(zip(found.point_index.tolist(), found.pred_classes.tolist(), strict=True))
    assert pairs == plainly_found(scores, boxes, iou)


def test_boxes_beyond_the_canvas_stay_with_their_class() -> None:
    """Moved by the largest coordinate and 1, the second would lie on the first."""
    found = found_by([[0.9, 0.0], [0.0, 0.8]], [[5.0, 5, 15, 15], [-11.0, -11, -1, -1]])
    assert found.pred_classes.tolist() == [0, 1]


def test_many_predictions_are_suppressed_alike() -> None:
    """torchvision goes another way from a thousand boxes on."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(500, 7, generator=rng)
    first = torch.rand(500, 2, generator=rng) * 300 - 100
    boxes = torch.cat([first, first + torch.rand(500, 2, generator=rng) * 60 + 10], dim=1)
    head = head_of(7, score_thresh=0.3, nms_thresh=0.5, detections_per_image=10**6)
    found = head.find(scores, boxes, CANVAS)
    pairs = list(zip(found.point_index.tolist(), found.pred_classes.tolist(), strict=True))
    assert pairs == plainly_found(scores, boxes, 0.5)


def test_equal_scores_keep_the_order_of_points_and_classes() -> None:
    boxes = [[10.0 * n, 0, 10 * n + 9, 9] for n in range(600)]
    found = found_by([[0.5, 0.5]] * 600, boxes, detections_per_image=1200)
    assert found.point_index.tolist() == [n // 2 for n in range(1200)]
    assert found.pred_classes.tolist() == [0, 1] * 600
    same = found_by([[0.5, 0.2]] * 3, [[0.0, 0, 9, 9]] * 3)
    assert same.point_index.tolist() == [0, 0]


def test_a_point_gives_each_of_its_classes_or_the_best() -> None:
    scores, boxes = [[0.4, 0.6, 0.1]], [[0.0, 0, 9, 9]]
    assert found_by(scores, boxes, score_thresh=0.3).pred_classes.tolist() == [1, 0]
    best = found_by(scores, boxes, score_thresh=0.3, multi_label=False)
    assert best.pred_classes.tolist() == [1]
    assert len(found_by(scores, boxes, score_thresh=0.6, multi_label=False)) == 0


def test_settings_are_attributes() -> None:
    head, predictions = head_of(), random_predictions()
    head.score_thresh, head.nms_thresh = 0.1, 1.0
    assert len(head.inference(predictions)[0]) > 100
    head.detections_per_image = 7
    seven = head.inference(predictions)[0]
    assert len(seven) == 7
    head.pre_nms_topk = 3
    assert torch.equal(head.inference(predictions)[0].scores, seven.scores[:3])
    head.score_thresh = 1.0
    assert len(head.inference(predictions)[0]) == 0


def test_best_first_on_the_canvas() -> None:
    head = head_of().eval()
    head.score_thresh = 0.0
    predictions = head(features_of())
    found = head.inference(predictions)
    assert len(found) == 2
    for image, each in enumerate(found):
        assert each.image_size == (64, 96)
        assert (each.scores[1:] <= each.scores[:-1]).all()
        scores = predictions.logits[image].sigmoid()[each.point_index, each.pred_classes]
        assert torch.equal(each.scores, scores)
        boxes = head.boxes(predictions)[image, each.point_index]
        assert torch.equal(each.pred_boxes.tensor, boxes)
        assert each.scores.dtype == torch.float32
        assert not each.scores.requires_grad


def test_a_batch_gives_what_its_images_give_alone() -> None:
    head, predictions = head_of(score_thresh=0.2), random_predictions(images=3)
    for image, found in enumerate(head.inference(predictions)):
        part = slice(image, image + 1)
        alone = predictions._replace(logits=predictions.logits[part], bins=predictions.bins[part])
        expected = head.inference(alone)[0]
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.point_index, expected.point_index)


def test_nothing_found_is_empty() -> None:
    bins = torch.zeros(1, 21, 64)
    head = head_of(score_thresh=0.5)
    for multi_label in (True, False):
        head.multi_label = multi_label
        (found,) = head.inference(predictions_of(torch.zeros(1, 21, 3), bins, (32, 32)))
        assert len(found) == 0
        assert found.image_size == (32, 32)
        assert found.pred_boxes.tensor.shape == (0, 4)
        assert found.scores.dtype == torch.float32


def test_double_precision_decides_in_double() -> None:
    predictions = random_predictions(dtype=torch.float64)
    found = head_of(score_thresh=0.3).inference(predictions)[0]
    assert found.scores.dtype == torch.float32
    assert found.pred_boxes.tensor.dtype == torch.float32
