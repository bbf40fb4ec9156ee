"""Task-aligned assignment: the published numbers, the definition object by object, bounded work."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from yolor_d2.modeling.heads.detection.assigner import TaskAlignedAssigner
from yolor_d2.modeling.heads.detection.losses import complete_iou
from yolor_d2.modeling.objects import Assignment, Objects

from ...golden import golden_arrays
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


def plainly_assigned(
    logits: Tensor, boxes: Tensor, points: Tensor, objects: Objects, topk: int
) -> tuple[Tensor, Tensor]:
    """Object (N, A) or -1 and score (N, A), by the definition: image by image, point by point."""
    learnt = torch.full(logits.shape[:2], -1)
    scores = logits.new_zeros(logits.shape[:2])
    for image in range(len(logits)):
        mine = (objects.image == image).nonzero().flatten().tolist()
        overlap, alignment, positive = {}, {}, {}
        for name in mine:
            box = objects.boxes[name].to(boxes.dtype)
            overlap[name] = complete_iou(box, boxes[image]).clamp(min=0)
            score = logits[image, :, objects.classes[name]].sigmoid()
            alignment[name] = score.sqrt() * overlap[name] ** 6
            inside = torch.cat([points - box[:2], box[2:] - points], dim=1).amin(dim=1) > 1e-9
            best = set((alignment[name] * inside).topk(topk).indices.tolist())
            positive[name] = [a for a in sorted(best) if inside[a]]
        for a in range(len(points)):
            wanting = [name for name in mine if a in positive[name]]
            if len(wanting) > 1:
                wanting = [max(mine, key=lambda name: overlap[name][a])]  # the first on ties
            if wanting:
                learnt[image, a] = wanting[0]
        for name in mine:
            kept = (learnt[image] == name).nonzero().flatten()
            if len(kept):
                aligned, overlapping = alignment[name][kept], overlap[name][kept]
                scores[image, kept] = aligned * overlapping.max() / (aligned.max() + 1e-9)
    return learnt, scores


def as_maps(found: Assignment, like: Tensor) -> tuple[Tensor, Tensor]:
    """Object and score of each point."""
    learnt, scores = torch.full(like.shape[:2], -1), like.new_zeros(like.shape[:2])
    learnt[found.image, found.point] = found.object
    scores[found.image, found.point] = found.score
    return learnt, scores


def same(first: Assignment, second: Assignment) -> bool:
    return first.counts == second.counts and all(
        torch.equal(one, other) for one, other in zip(first[:4], second[:4], strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk_pairs", [1, 2**20])
@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_the_published_assignment(shared_dir, case, chunk_pairs, dtype) -> None:
    golden = golden_arrays(shared_dir, "losses")
    _, predictions, objects = golden_case(shared_dir, case, dtype)

    found = TaskAlignedAssigner(chunk_pairs=chunk_pairs)(**inputs_of(predictions, objects))

    positive = golden[f"{case}/fg"]
    learnt, _ = as_maps(found, predictions.logits)
    np.testing.assert_array_equal(learnt >= 0, positive)
    first = torch.searchsorted(objects.image, torch.arange(len(positive)))  # of each image
    np.testing.assert_array_equal(
        (learnt - first[:, None])[positive], golden[f"{case}/gt_idx"][positive]
    )
    scores = np.zeros(predictions.logits.shape)
    scores[found.image, found.point, objects.classes[found.object]] = found.score
    if positive.any():
        np.testing.assert_allclose(scores, golden[f"{case}/scores"], atol=3e-6)
        assert found.score.sum().item() == pytest.approx(golden[f"{case}/score_sum"], rel=1e-6)


@given(COUNTS, SEEDS, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_it_is_the_definition(counts, seed, topk) -> None:
    case = case_of(counts, seed)

    found = TaskAlignedAssigner(topk=topk)(**case)

    learnt, scores = as_maps(found, case["logits"])
    expected_learnt, expected_scores = plainly_assigned(**case, topk=topk)
    assert torch.equal(learnt, expected_learnt)
    assert torch.allclose(scores, expected_scores)
    assert found.counts == (learnt >= 0).sum(dim=1).tolist()


def test_random_cases_have_conflicts_and_points_that_move_to_others() -> None:
    """So that the comparison above means something."""
    case = case_of([12])
    alone = [
        TaskAlignedAssigner()(
            **case
            | {"objects": Objects(*(e[g : g + 1] for e in case["objects"][:3]), torch.ones(1))}
        )
        for g in range(12)
    ]
    wanting = torch.zeros(case["points"].shape[0])
    for found in alone:
        wanting[found.point] += 1
    assert (wanting > 1).sum() > 5
    together = TaskAlignedAssigner()(**case)
    moved = [
        point not in alone[name].point
        for point, name in zip(together.point, together.object, strict=True)
    ]
    assert any(moved)


@given(COUNTS, SEEDS, st.integers(1, 1000))
@settings(max_examples=40, deadline=None)
def test_chunks_change_nothing(counts, seed, chunk_pairs) -> None:
    case = case_of(counts, seed)
    assert same(TaskAlignedAssigner(chunk_pairs=chunk_pairs)(**case), TaskAlignedAssigner()(**case))


@given(st.permutations(range(3)), SEEDS)
@settings(max_examples=20, deadline=None)
def test_images_do_not_know_each_other(order, seed) -> None:
    counts = [3, 0, 8]
    case = case_of(counts, seed)
    learnt, scores = as_maps(TaskAlignedAssigner()(**case), case["logits"])
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
        one_learnt, one_scores = as_maps(
            TaskAlignedAssigner()(**case | alone | {"objects": objects}), alone["logits"]
        )
        first = sum(counts[:image])
        assert torch.equal(one_learnt[0], torch.where(learnt[image] < 0, -1, learnt[image] - first))
        assert torch.allclose(one_scores[0], scores[image])


def test_points_are_listed_image_by_image_in_order() -> None:
    found = TaskAlignedAssigner()(**case_of([4, 0, 6]))
    place = found.image * 1000 + found.point
    assert (place[1:] > place[:-1]).all()
    assert found.counts[1] == 0
    assert sum(found.counts) == len(found.point)


def one_point_case(boxes: list[list[float]], *, predicted: list[float]) -> Assignment:
    """A canvas of a single point in the middle of 8 x 8 pixels."""
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
    overlap = 0.5 - 4 / 128  # centres 2 apart, the hull is 8 x 8; equal up to the aspect ratio
    angle = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    overlap -= angle**2 / (angle + 0.5)
    assert found.score.item() == pytest.approx(overlap, rel=1e-5)


def test_a_point_on_the_side_is_not_inside() -> None:
    assert one_point_case([[4.0, 0, 8, 8]], predicted=[4.0, 0, 8, 8]).counts == [0]
    assert one_point_case([[3.9, 0, 8, 8]], predicted=[4.0, 0, 8, 8]).counts == [1]


def test_the_first_of_equal_objects_wins() -> None:
    boxes = [[1.0, 1, 7, 7], [0.0, 0, 8, 8], [0.0, 0, 8, 8]]
    assert one_point_case(boxes, predicted=[0.0, 0, 8, 8]).object.tolist() == [1]
    assert one_point_case([boxes[1]] * 14, predicted=[0.0, 0, 8, 8]).object.tolist() == [0]


def test_points_without_alignment_fill_up_but_only_from_inside() -> None:
    """No prediction overlaps the object; which has six fine points inside and a coarser one."""
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
    ids=["none", "point", "line", "inside out", "left of it", "right of it", "between points"],
)
def test_objects_without_a_point_stay_unmatched(boxes) -> None:
    objects = random_objects([len(boxes), 0])._replace(boxes=boxes)
    found = TaskAlignedAssigner()(**inputs_of(random_predictions(), objects))
    assert found.counts == [0, 0]
    assert [len(each) for each in found[:4]] == [0] * 4


def test_objects_of_one_cell_share_its_points() -> None:
    boxes = torch.tensor([[16.0, 16, 24, 24]]) + torch.rand(14, 4) / 4
    objects = random_objects([14, 0])._replace(boxes=boxes)
    found = TaskAlignedAssigner()(**inputs_of(random_predictions(), objects))
    assert found.counts == [1, 0]  # the middle of the fine cell; coarser middles are at its sides


def test_alpha_and_beta_weigh() -> None:
    case = case_of([5, 5])
    assert not same(TaskAlignedAssigner(alpha=1.0)(**case), TaskAlignedAssigner()(**case))
    assert not same(TaskAlignedAssigner(beta=1.0)(**case), TaskAlignedAssigner()(**case))


def test_topk_beyond_all_points_takes_all_inside() -> None:
    case = case_of([1])
    inside = TaskAlignedAssigner(topk=10**6)(**case)
    first, last = case["objects"].boxes[0].split(2)
    expected = ((case["points"] > first) & (case["points"] < last)).all(dim=1).nonzero().flatten()
    assert torch.equal(inside.point, expected)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"MODEL.DETECTION_HEAD.ASSIGN.TOPK"):
        TaskAlignedAssigner(topk=0)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor, views apart, and how many numbers were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in torch.utils._pytree.tree_leaves(result):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().size() // each.itemsize)
        return result


@pytest.mark.parametrize("images", [1, 16])
def test_a_crowd_takes_bounded_memory(images) -> None:
    size, crowd, chunk_pairs = (256, 256), 3000, 2**17
    predictions = random_predictions(images=images, size=size)
    objects = random_objects([crowd, *[2] * (images - 1)], size=size)
    case = inputs_of(predictions, objects)

    with Largest() as largest:
        found = TaskAlignedAssigner(chunk_pairs=chunk_pairs)(**case)

    pairs = crowd * len(case["points"])
    assert largest.numbers <= max(4 * chunk_pairs, case["boxes"].numel()) < pairs
    assert found.counts[0] > 1000


def test_it_waits_for_nothing_but_the_counts() -> None:
    case = case_of([3, 0, 12])
    with Counting() as counting:
        TaskAlignedAssigner(chunk_pairs=1)(**case)
    assert counting.waits == {"tolist": 1}


def test_gradients_do_not_pass() -> None:
    predictions = random_predictions()
    found = head_of().assign(predictions, random_objects([3, 3]))
    assert not found.score.requires_grad


def test_half_precision_logits_are_enough() -> None:
    case = case_of([3, 4], dtype=torch.float32)
    half = case | {"logits": case["logits"].bfloat16()}
    found = TaskAlignedAssigner()(**half)
    assert found.score.dtype == torch.float32
    assert same(found, TaskAlignedAssigner()(**case | {"logits": half["logits"].float()}))


def test_predictions_of_a_canvas_smaller_than_topk() -> None:
    logits, bins = torch.zeros(1, 21, 3), torch.zeros(1, 21, 64)
    predictions = predictions_of(logits, bins, (32, 32))
    objects = random_objects([2], size=(32, 32))._replace(
        boxes=torch.tensor([[0.0, 0, 32, 32]] * 2)
    )
    found = TaskAlignedAssigner(topk=50)(**inputs_of(predictions, objects))
    assert found.counts == [21]
