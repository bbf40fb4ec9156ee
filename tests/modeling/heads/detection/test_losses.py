"""Box and classification losses: by hand, against libraries and golden numbers."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import complete_box_iou_loss

from yolor_d2.modeling.heads.detection.losses import (
    complete_iou,
    distribution_focal_loss,
    sparse_binary_cross_entropy,
)

from ...golden import golden_arrays


def random_boxes(number: int, *, seed: int, size: float = 100.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    first = torch.rand(number, 2, generator=rng, dtype=torch.float64) * size
    sides = torch.rand(number, 2, generator=rng, dtype=torch.float64) * size / 2 + 1
    return torch.cat([first, first + sides], dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_complete_iou_equals_the_published_one(shared_dir, dtype) -> None:
    golden = golden_arrays(shared_dir, "losses")
    first, second = torch.from_numpy(golden["ciou/boxes"]).to(dtype).unbind(dim=1)
    expected = torch.from_numpy(golden["ciou/ciou"]).squeeze(1).to(dtype)
    assert torch.allclose(complete_iou(first, second), expected, rtol=0, atol=4e-7)


def test_complete_iou_and_its_gradient_against_torchvision() -> None:
    first, second = random_boxes(500, seed=0), random_boxes(500, seed=1)
    ours, theirs = first.clone().requires_grad_(), first.clone().requires_grad_()

    our_loss, their_loss = 1 - complete_iou(ours, second), complete_box_iou_loss(theirs, second)
    our_loss.sum().backward()
    their_loss.sum().backward()

    assert torch.allclose(our_loss, their_loss, atol=1e-6)
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_complete_iou_by_hand() -> None:
    """Adjacent equal squares: no overlap, centers 10 apart in an enclosing box of 20 x 10."""
    first, second = torch.tensor([0.0, 0, 10, 10]), torch.tensor([10.0, 0, 20, 10])
    assert complete_iou(first, second) == pytest.approx(-100 / 500)
    assert complete_iou(first, first) == pytest.approx(1)


def test_epsilon_is_added_to_heights_only() -> None:
    """Boxes without area: the published constants decide the value of 0 / 0."""
    point, flat, thin = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double()
    assert complete_iou(point, point) == 0
    # The epsilon gives each box an area of 1e-7, but the intersection stays 0.
    assert complete_iou(flat, flat) == pytest.approx(0, abs=1e-12)
    aspect = complete_iou(flat, thin)  # centers sqrt(1/2) apart in 1 x 1; v = 1
    assert aspect == pytest.approx(-1 / 4 - 1 / 2, abs=1e-6)


def test_complete_iou_broadcasts() -> None:
    first, second = random_boxes(3, seed=0), random_boxes(5, seed=1)
    pairs = complete_iou(first[:, None], second)
    assert pairs.shape == (3, 5)
    assert pairs[2, 4] == complete_iou(first[2], second[4])


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 0], [5, 5, 5, 9], [5, 5, 9, 5], [1e4, 1e4, 2e4, 1e4]], ids=str
)
def test_gradients_of_degenerate_boxes_are_finite(box) -> None:
    boxes = torch.tensor([box, [1, 2, 30, 40]], dtype=torch.float32, requires_grad=True)
    complete_iou(boxes[:, None], boxes.detach()).sum().backward()
    assert torch.isfinite(boxes.grad).all()


def test_distribution_focal_loss_by_hand() -> None:
    bins = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    log_p = bins.log_softmax(dim=-1)[0]
    distances = torch.tensor([[2.25, 0.0, 9.0, -3.0]]).double()  # the last two beyond the bins

    loss = distribution_focal_loss(bins.flatten(1), distances)

    expected = -(
        0.75 * log_p[0, 2]
        + 0.25 * log_p[0, 3]
        + log_p[1, 0]
        + 0.01 * log_p[2, 4]
        + 0.99 * log_p[2, 5]
        + log_p[3, 0]
    )
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(expected.item() / 4)


def test_minimizing_the_distribution_focal_loss_gives_the_distance() -> None:
    bins = torch.zeros(1, 4 * 8, dtype=torch.float64, requires_grad=True)
    distances = torch.tensor([[0.0, 1.5, 6.9, 3.2]], dtype=torch.float64)
    optimizer = torch.optim.Adam([bins], lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        distribution_focal_loss(bins, distances).sum().backward()
        optimizer.step()
    mean = (bins.view(4, 8).softmax(dim=-1) * torch.arange(8)).sum(dim=-1)
    assert torch.allclose(mean, distances[0], atol=0.02)


def sparse_case(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    logits = (torch.randn(3, 20, 7, generator=rng) * 20).to(dtype)
    index = torch.tensor([[0, 0, 2], [3, 19, 5], [6, 0, 1]])  # images, points, classes
    scores = torch.rand(3, generator=rng).to(dtype)
    return logits.requires_grad_(), index, scores


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_cross_entropy_equals_that_of_dense_targets(dtype) -> None:
    logits, index, scores = sparse_case(dtype)
    dense = torch.zeros_like(logits)
    dense[tuple(index)] = scores
    known = torch.ones(3, dtype=torch.bool)

    loss = sparse_binary_cross_entropy(logits, logits[tuple(index)], scores, known)
    expected = F.binary_cross_entropy_with_logits(logits, dense, reduction="sum")

    assert torch.allclose(loss, expected, rtol=10 * torch.finfo(dtype).eps, atol=0)
    gradients = [torch.autograd.grad(each, logits)[0] for each in (loss, expected)]
    assert torch.allclose(*gradients, atol=10 * torch.finfo(dtype).eps)


def test_logits_of_unknown_images_have_no_loss() -> None:
    logits, index, scores = sparse_case(torch.float32)
    known = torch.tensor([True, False, True])

    loss = sparse_binary_cross_entropy(logits, logits[tuple(index)], scores, known)

    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[1].any()
    assert gradient[0].all()
    kept = sparse_binary_cross_entropy(
        logits[known], logits[tuple(index)], scores, torch.ones(2, dtype=torch.bool)
    )
    assert loss == kept


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_cross_entropy_of_extreme_logits_is_finite(logit) -> None:
    logits = torch.full((1, 1, 1), logit, requires_grad=True)
    loss = sparse_binary_cross_entropy(
        logits, logits[0, 0], torch.tensor([0.5]), torch.tensor([True])
    )
    loss.backward()
    assert loss.item() == pytest.approx(5e3)
    assert logits.grad.abs() == 0.5
