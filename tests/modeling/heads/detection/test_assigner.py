"""Task-aligned assignment: published numbers, the definition object by object, bounded memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from yolor_d2.modeling.heads.detection.assigner import TaskAlignedAssigner
from yolor_d2.modeling.heads.detection.losses import complete_iou
from yolor_d2.modeling.objects import Assignment, Objects

from ...golden import golden_arrays
from ...memory import LargestStorage
from ...waiting import Counting
from .cases import (
    GOLDEN_CASES,
    golden_case,
    head_of,
    predictions_of,
    random_objects,
    random_predictions,
)

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=3)
SEEDS = st.integers(0, 2**31)


def inputs_of(predictions, objects: Objects) -> dict:
    return {
        "logits": predictions.logits.detach(),
        "boxes": head_of().boxes(predictions).detach(),
        "points": predictions.points,
        "objects": objects,
    }


def case_of(counts: list[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> dict:
    predictions = random_predictions(images=len(counts), dtype=dtype, seed=seed)
    return inputs_of(predictions, random_objects(counts, seed=seed))


def reference_assignment(
    logits: Tensor, boxes: Tensor, points: Tensor, objects: Objects, topk: int
) -> tuple[Tensor, Tensor]:
    """Object (N, A) or -1 and score (N, A), by the definition: image by image, point by point."""
    assigned = torch.full(logits.shape[:2], -1)
    scores = logits.new_zeros(logits.shape[:2])
    for image in range(len(logits)):
        mine = (objects.image == image).nonzero().flatten().tolist()
        overlap, alignment, positive = {}, {}, {}
        for g in mine:
            box = objects.boxes[g].to(boxes.dtype)
            overlap[g] = complete_iou(box, boxes[image]).clamp(min=0)
            score = logits[image, :, objects.classes[g]].sigmoid()
            alignment[g] = score.sqrt() * overlap[g] ** 6
            inside = torch.cat([points - box[:2], box[2:] - points], dim=1).amin(dim=1) > 1e-9
            best = set((alignment[g] * inside).topk(topk).indices.tolist())
            positive[g] = [a for a in sorted(best) if inside[a]]
        for a in range(len(points)):
            candidates = [g for g in mine if a in positive[g]]
            if len(candidates) > 1:
                candidates = [max(mine, key=lambda g: overlap[g][a])]  # the first on ties
            if candidates:
                assigned[image, a] = candidates[0]
        for g in mine:
            kept = (assigned[image] == g).nonzero().flatten()
            if len(kept):
                aligned, overlapping = alignment[g][kept], overlap[g][kept]
                scores[image, kept] = aligned * overlapping.max() / (aligned.max() + 1e-9)
    return assigned, scores


def as_maps(found: Assignment, like: Tensor) -> tuple[Tensor, Tensor]:
    """Object or -1 and score of each point, (N, A) both."""
    assigned, scores = torch.full(like.shape[:2], -1), like.new_zeros(like.shape[:2])
    assigned[found.image, found.point] = found.object
    scores[found.image, found.point] = found.score
    return assigned, scores


def same(first: Assignment, second: Assignment) -> bool:
    return first.counts == second.counts and all(
        torch.equal(one, other) for one, other in zip(first[:4], second[:4], strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk_pairs", [1, 2**20])
@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_published_assignment(shared_dir, case, chunk_pairs, dtype) -> None:
    golden = golden_arrays(shared_dir, "losses")
    _, predictions, objects = golden_case(shared_dir, case, dtype)

    found = TaskAlignedAssigner(chunk_pairs=chunk_pairs)(**inputs_of(predictions, objects))

    positive = golden[f"{case}/fg"]
    assigned, _ = as_maps(found, predictions.logits)
    np.testing.assert_array_equal(assigned >= 0, positive)
    first = torch.searchsorted(objects.image, torch.arange(len(positive)))  # of each image
    np.testing.assert_array_equal(
        (assigned - first[:, None])[positive], golden[f"{case}/gt_idx"][positive]
    )
    scores = np.zeros(predictions.logits.shape)
    scores[found.image, found.point, objects.classes[found.object]] = found.score
    if positive.any():
        np.testing.assert_allclose(scores, golden[f"{case}/scores"], atol=3e-6)
        assert found.score.sum().item() == pytest.approx(golden[f"{case}/score_sum"], rel=1e-6)


@given(COUNTS, SEEDS, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_assignment_equals_the_definition(counts, seed, topk) -> None:
    case = case_of(counts, seed)

    found = TaskAlignedAssigner(topk=topk)(**case)

    assigned, scores = as_maps(found, case["logits"])
    expected_assigned, expected_scores = reference_assignment(**case, topk=topk)
    assert torch.equal(assigned, expected_assigned)
    assert torch.allclose(scores, expected_scores)
    assert found.counts == (assigned >= 0).sum(dim=1).tolist()


def test_random_cases_have_points_selected_by_several_objects() -> None:
    """Otherwise the comparison above would not cover conflicts."""
    case = case_of([12])
    alone = [
        TaskAlignedAssigner()(
            **case
            | {"objects": Objects(*(e[g : g + 1] for e in case["objects"][:3]), torch.ones(1))}
        )
        for g in range(12)
    ]
    selections = torch.zeros(case["points"].shape[0])
    for found in alone:
        selections[found.point] += 1
    assert (selections > 1).sum() > 5
    together = TaskAlignedAssigner()(**case)
    moved = [
        point not in alone[g].point
        for point, g in zip(together.point, together.object, strict=True)
    ]
    assert any(moved)


@given(COUNTS, SEEDS, st.integers(1, 1000))
@settings(max_examples=40, deadline=None)
def test_chunk_size_does_not_change_the_result(counts, seed, chunk_pairs) -> None:
    case = case_of(counts, seed)
    assert same(TaskAlignedAssigner(chunk_pairs=chunk_pairs)(**case), TaskAlignedAssigner()(**case))


@given(st.permutations(range(3)), SEEDS)
@settings(max_examples=20, deadline=None)
def test_images_are_independent(order, seed) -> None:
    counts = [3, 0, 8]
    case = case_of(counts, seed)
    assigned, scores = as_maps(TaskAlignedAssigner()(**case), case["logits"])
    for image in order:
        mine = case["objects"].image == image
        objects = Objects(
            case["objects"].boxes[mine],
            case["objects"].classes[mine],
            torch.zeros(counts[image], dtype=torch.int64),
            torch.ones(1, dtype=torch.bool),
        )
        part = slice(image, image + 1)
        alone = {"logits": case["logits"][part], "boxes": case["boxes"][part]}
        one_assigned, one_scores = as_maps(
            TaskAlignedAssigner()(**case | alone | {"objects": objects}), alone["logits"]
        )
        first = sum(counts[:image])
        expected = torch.where(assigned[image] < 0, -1, assigned[image] - first)
        assert torch.equal(one_assigned[0], expected)
        assert torch.allclose(one_scores[0], scores[image])


def test_points_are_listed_image_by_image_in_order() -> None:
    found = TaskAlignedAssigner()(**case_of([4, 0, 6]))
    position = found.image * 1000 + found.point
    assert (position[1:] > position[:-1]).all()
    assert found.counts[1] == 0
    assert sum(found.counts) == len(found.point)


def one_point_case(boxes: list[list[float]], *, predicted: list[float]) -> Assignment:
    """Assignment on a canvas of 8 x 8 pixels with a single point at its center."""
    objects = Objects(
        torch.tensor(boxes).view(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.ones(1, dtype=torch.bool),
    )
    return TaskAlignedAssigner()(
        logits=torch.zeros(1, 1, 1),
        boxes=torch.tensor([[predicted]]),
        points=torch.tensor([[4.0, 4.0]]),
        objects=objects,
    )


def test_score_by_hand() -> None:
    found = one_point_case([[0.0, 0, 8, 8]], predicted=[0.0, 0, 8, 4])
    overlap = 0.5 - 4 / 128  # centers 2 apart in an enclosing box of 8 x 8
    angle = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    overlap -= angle**2 / (angle + 0.5)
    assert found.score.item() == pytest.approx(overlap, rel=1e-5)


def test_a_point_on_the_side_is_not_inside() -> None:
    assert one_point_case([[4.0, 0, 8, 8]], predicted=[4.0, 0, 8, 8]).counts == [0]
    assert one_point_case([[3.9, 0, 8, 8]], predicted=[4.0, 0, 8, 8]).counts == [1]


def test_ties_are_assigned_to_the_first_object() -> None:
    boxes = [[1.0, 1, 7, 7], [0.0, 0, 8, 8], [0.0, 0, 8, 8]]
    assert one_point_case(boxes, predicted=[0.0, 0, 8, 8]).object.tolist() == [1]
    assert one_point_case([boxes[1]] * 14, predicted=[0.0, 0, 8, 8]).object.tolist() == [0]


def test_points_without_alignment_are_assigned_only_inside_the_object() -> None:
    """No prediction overlaps the object, which contains six fine points and a coarse one."""
    case = inputs_of(random_predictions(images=1), random_objects([1]))
    case["boxes"] = torch.full_like(case["boxes"], 1e4)
    case["boxes"][..., 2:] += 1
    case["objects"] = case["objects"]._replace(boxes=torch.tensor([[0.0, 0, 24, 16]]))

    found = TaskAlignedAssigner(topk=len(case["points"]))(**case)

    assert found.score.tolist() == [0] * 7
    assert (case["points"][found.point] < torch.tensor([24, 16])).all()


@pytest.mark.parametrize(
    "boxes",
    [
        torch.zeros(0, 4),
        torch.tensor([[20.0, 20, 20, 20]]),
        torch.tensor([[20.0, 20, 20, 30]]),
        torch.tensor([[30.0, 30, 20, 20]]),
        torch.tensor([[-500.0, -500, -400, -400]]),
        torch.tensor([[5000.0, 5000, 9000, 9000]]),
        torch.tensor([[8.5, 8.5, 11.0, 11.0]]),
    ],
    ids=["none", "point", "line", "negative size", "left", "right", "between points"],
)
def test_objects_without_a_point_are_not_assigned(boxes) -> None:
    objects = random_objects([len(boxes), 0])._replace(boxes=boxes)
    found = TaskAlignedAssigner()(**inputs_of(random_predictions(), objects))
    assert found.counts == [0, 0]
    assert [len(each) for each in found[:4]] == [0] * 4


@pytest.mark.parametrize("side", [2.0, 5.0, 15.0])
def test_small_objects_have_at_least_four_points_to_choose_from(side: float) -> None:
    """The maps have points at 4, 12, ... pixels, at 8, 24, ..., and at 16, 48, ..."""
    box = torch.tensor([[20.5 - side / 2, 12.5 - side / 2, 20.5 + side / 2, 12.5 + side / 2]])
    case = inputs_of(random_predictions(images=1), random_objects([1])._replace(boxes=box))
    case["boxes"] = box.expand(1, len(case["points"]), 4)
    plain, enlarged = (TaskAlignedAssigner(topk=20, min_side=s)(**case) for s in (0.0, 16.0))
    by_hand = {(20.0, 12.0), (28.0, 12.0), (20.0, 20.0), (28.0, 20.0)}
    by_hand |= {(24.0, 8.0), (16.0, 16.0)}  # of the coarser maps
    assert set(map(tuple, case["points"][enlarged.point].tolist())) == by_hand
    assert enlarged.counts[0] > plain.counts[0]


def test_large_objects_are_not_enlarged() -> None:
    case = case_of([8, 3])
    sides = case["objects"].boxes[:, 2:] - case["objects"].boxes[:, :2]
    plain, same = (TaskAlignedAssigner(min_side=s)(**case) for s in (0.0, float(sides.min())))
    for one, other in zip(plain, same, strict=True):
        assert one == other if isinstance(one, list) else torch.equal(one, other)


@pytest.mark.parametrize("box", [[20.0, 20, 20, 20], [20.0, 20, 20, 30], [30.0, 30, 20, 20]])
def test_objects_without_area_are_not_enlarged(box: list[float]) -> None:
    objects = random_objects([1, 0])._replace(boxes=torch.tensor([box]))
    found = TaskAlignedAssigner(min_side=16.0)(**inputs_of(random_predictions(), objects))
    assert found.counts == [0, 0]


def test_objects_of_one_cell_share_its_points() -> None:
    boxes = torch.tensor([[16.0, 16, 24, 24]]) + torch.rand(14, 4) / 4
    objects = random_objects([14, 0])._replace(boxes=boxes)
    found = TaskAlignedAssigner()(**inputs_of(random_predictions(), objects))
    assert found.counts == [1, 0]  # the fine cell's center; coarser centers are on its corners


def test_alpha_and_beta_change_the_assignment() -> None:
    case = case_of([5, 5])
    assert not same(TaskAlignedAssigner(alpha=1.0)(**case), TaskAlignedAssigner()(**case))
    assert not same(TaskAlignedAssigner(beta=1.0)(**case), TaskAlignedAssigner()(**case))


def test_topk_beyond_all_points_selects_all_points_inside() -> None:
    case = case_of([1])
    inside = TaskAlignedAssigner(topk=10**6)(**case)
    first, last = case["objects"].boxes[0].split(2)
    expected = ((case["points"] > first) & (case["points"] < last)).all(dim=1).nonzero().flatten()
    assert torch.equal(inside.point, expected)


def test_invalid_topk_is_refused() -> None:
    with pytest.raises(ValueError, match=r"MODEL.DETECTION_HEAD.ASSIGN.TOPK"):
        TaskAlignedAssigner(topk=0)


@pytest.mark.parametrize("images", [1, 16])
def test_memory_of_a_crowd_is_bounded(images) -> None:
    size, crowd, chunk_pairs = (256, 256), 3000, 2**17
    predictions = random_predictions(images=images, size=size)
    objects = random_objects([crowd, *[2] * (images - 1)], size=size)
    case = inputs_of(predictions, objects)

    with LargestStorage() as largest:
        found = TaskAlignedAssigner(chunk_pairs=chunk_pairs)(**case)

    pairs = crowd * len(case["points"])
    assert largest.numbers <= max(4 * chunk_pairs, case["boxes"].numel()) < pairs
    assert found.counts[0] > 1000


def test_only_the_counts_are_synchronized() -> None:
    case = case_of([3, 0, 12])
    with Counting() as counting:
        TaskAlignedAssigner(chunk_pairs=1)(**case)
    assert counting.waits == {"tolist": 1}


def test_scores_have_no_gradient() -> None:
    predictions = random_predictions()
    found = head_of().assign(predictions, random_objects([3, 3]))
    assert not found.score.requires_grad


def test_half_precision_logits_are_computed_in_single_precision() -> None:
    case = case_of([3, 4], dtype=torch.float32)
    half = case | {"logits": case["logits"].bfloat16()}
    found = TaskAlignedAssigner()(**half)
    assert found.score.dtype == torch.float32
    assert same(found, TaskAlignedAssigner()(**case | {"logits": half["logits"].float()}))


def test_a_canvas_with_fewer_points_than_topk() -> None:
    logits, bins = torch.zeros(1, 21, 3), torch.zeros(1, 21, 64)
    predictions = predictions_of(logits, bins, (32, 32))
    objects = random_objects([2], size=(32, 32))._replace(
        boxes=torch.tensor([[0.0, 0, 32, 32]] * 2)
    )
    found = TaskAlignedAssigner(topk=50)(**inputs_of(predictions, objects))
    assert found.counts == [21]
