"""Inference of the detection head: published numbers, suppression per class, order, settings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from yolor_d2.modeling.heads.detection import Suppression

from ...golden import golden_arrays
from .cases import features_of, head_of, predictions_of, random_predictions

CANVAS = (64, 96)


def detections_of(scores: list[list[float]], boxes: list[list[float]], **settings):
    """Detections of a head with as many classes as scores, at points with these boxes."""
    head = head_of(len(scores[0]), suppression=Suppression(**settings))
    return head.detect(torch.tensor(scores), torch.tensor(boxes), CANVAS)


@pytest.mark.parametrize(
    ("name", "suppression"),
    [
        ("multi", Suppression(score_thresh=0.001, nms_thresh=0.7, multi_label=True)),
        ("best", Suppression(score_thresh=0.25, nms_thresh=0.45, multi_label=False)),
    ],
)
def test_published_suppression(shared_dir, name, suppression) -> None:
    golden = golden_arrays(shared_dir)
    rows = torch.from_numpy(golden["64x96/pred"])[0].T  # (A, 116)
    center, half = rows[:, :2], rows[:, 2:4] / 2
    boxes = torch.cat([center - half, center + half], dim=1)

    found = head_of(80, suppression=suppression).detect(rows[:, 4:84], boxes, CANVAS)

    expected = golden[f"64x96/nms_{name}"]
    np.testing.assert_array_equal(found.pred_boxes.tensor, expected[:, :4])
    np.testing.assert_array_equal(found.scores, expected[:, 4])
    np.testing.assert_array_equal(found.pred_classes, expected[:, 5])
    assert torch.equal(boxes[found.point_index], found.pred_boxes.tensor)


def reference_detections(scores: Tensor, boxes: Tensor, iou: float) -> list[tuple[int, int]]:
    """Points and classes: NMS of each class, then sorted by score, point and class."""
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
def test_classes_are_suppressed_separately(seed, number, classes, iou, side) -> None:
    """Boxes extend beyond the canvas on all sides, up to 4,000 pixels."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.rand(number, classes, generator=rng)
    first = torch.rand(number, 2, generator=rng) * side - 400
    boxes = torch.cat([first, first + torch.rand(number, 2, generator=rng) * 60 + 10], dim=1)
    suppression = Suppression(score_thresh=0.3, nms_thresh=iou, detections_per_image=10**6)

    found = head_of(classes, suppression=suppression).detect(scores, boxes, CANVAS)

    pairs = list(zip(found.point_index.tolist(), found.pred_classes.tolist(), strict=True))
    assert pairs == reference_detections(scores, boxes, iou)


def test_boxes_beyond_the_canvas_are_suppressed_within_their_class() -> None:
    """Shifted by the largest coordinate plus 1, the second box would cover the first."""
    found = detections_of([[0.9, 0.0], [0.0, 0.8]], [[5.0, 5, 15, 15], [-11.0, -11, -1, -1]])
    assert found.pred_classes.tolist() == [0, 1]


def test_many_predictions_are_suppressed_in_the_same_way() -> None:
    """torchvision uses another algorithm above a thousand boxes."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(500, 7, generator=rng)
    first = torch.rand(500, 2, generator=rng) * 300 - 100
    boxes = torch.cat([first, first + torch.rand(500, 2, generator=rng) * 60 + 10], dim=1)
    suppression = Suppression(score_thresh=0.3, nms_thresh=0.5, detections_per_image=10**6)
    found = head_of(7, suppression=suppression).detect(scores, boxes, CANVAS)
    pairs = list(zip(found.point_index.tolist(), found.pred_classes.tolist(), strict=True))
    assert pairs == reference_detections(scores, boxes, 0.5)


def test_equal_scores_keep_the_order_of_points_and_classes() -> None:
    boxes = [[10.0 * n, 0, 10 * n + 9, 9] for n in range(600)]
    found = detections_of([[0.5, 0.5]] * 600, boxes, detections_per_image=1200)
    assert found.point_index.tolist() == [n // 2 for n in range(1200)]
    assert found.pred_classes.tolist() == [0, 1] * 600
    same = detections_of([[0.5, 0.2]] * 3, [[0.0, 0, 9, 9]] * 3)
    assert same.point_index.tolist() == [0, 0]


def test_a_point_predicts_all_of_its_classes_or_the_best() -> None:
    scores, boxes = [[0.4, 0.6, 0.1]], [[0.0, 0, 9, 9]]
    assert detections_of(scores, boxes, score_thresh=0.3).pred_classes.tolist() == [1, 0]
    best = detections_of(scores, boxes, score_thresh=0.3, multi_label=False)
    assert best.pred_classes.tolist() == [1]
    assert len(detections_of(scores, boxes, score_thresh=0.6, multi_label=False)) == 0


def test_settings_can_be_replaced() -> None:
    head, predictions = head_of(), random_predictions()
    head.suppression = Suppression(score_thresh=0.1, nms_thresh=1.0)
    assert len(head.inference(predictions)[0]) > 100
    head.suppression = head.suppression._replace(detections_per_image=7)
    seven = head.inference(predictions)[0]
    assert len(seven) == 7
    head.suppression = head.suppression._replace(pre_nms_topk=3)
    assert torch.equal(head.inference(predictions)[0].scores, seven.scores[:3])
    head.suppression = head.suppression._replace(score_thresh=1.0)
    assert len(head.inference(predictions)[0]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score_thresh": -0.1}, r"MODEL\.DETECTION_HEAD\.TEST\.SCORE_THRESH is -0\.1"),
        ({"nms_thresh": 1.5}, r"MODEL\.DETECTION_HEAD\.TEST\.NMS_THRESH is 1\.5"),
        ({"pre_nms_topk": 0}, r"MODEL\.DETECTION_HEAD\.TEST\.PRE_NMS_TOPK is 0"),
        ({"detections_per_image": 0}, r"TEST\.DETECTIONS_PER_IMAGE is 0"),
    ],
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        head_of(suppression=Suppression(**settings))


def test_detections_are_on_the_canvas_by_descending_score() -> None:
    head = head_of(suppression=Suppression(score_thresh=0.0)).eval()
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


def test_a_batch_gives_the_same_results_as_single_images() -> None:
    head = head_of(suppression=Suppression(score_thresh=0.2))
    predictions = random_predictions(images=3)
    for image, found in enumerate(head.inference(predictions)):
        part = slice(image, image + 1)
        alone = predictions._replace(logits=predictions.logits[part], bins=predictions.bins[part])
        expected = head.inference(alone)[0]
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.point_index, expected.point_index)


def test_no_detections_give_empty_instances() -> None:
    bins = torch.zeros(1, 21, 64)
    for multi_label in (True, False):
        head = head_of(suppression=Suppression(score_thresh=0.5, multi_label=multi_label))
        (found,) = head.inference(predictions_of(torch.zeros(1, 21, 3), bins, (32, 32)))
        assert len(found) == 0
        assert found.image_size == (32, 32)
        assert found.pred_boxes.tensor.shape == (0, 4)
        assert found.scores.dtype == torch.float32


def test_double_precision_predictions_give_single_precision_results() -> None:
    predictions = random_predictions(dtype=torch.float64)
    found = head_of(suppression=Suppression(score_thresh=0.3)).inference(predictions)[0]
    assert found.scores.dtype == torch.float32
    assert found.pred_boxes.tensor.dtype == torch.float32
