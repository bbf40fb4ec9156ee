"""The mask loss: published numbers, a reference with autograd, bounded memory."""

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from yolor_d2.modeling.heads.mask import loss as module
from yolor_d2.modeling.heads.mask.loss import mask_loss
from yolor_d2.modeling.objects import Assignment, GroundTruthMasks

from ...golden import golden_arrays
from ...memory import LargestStorage

STRIDE = 4


def assign(image: Tensor, point: Tensor, objects: Tensor, images: int) -> Assignment:
    counts = torch.bincount(image, minlength=images).tolist()
    return Assignment(image, point, objects, torch.ones(len(image)), counts)


def problem(
    counts: list[int], *, dtype: torch.dtype = torch.float64, size: tuple[int, int] = (6, 9)
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Random predictions and targets: assigned points of each image, and two objects per image."""
    rng = torch.Generator().manual_seed(len(counts))
    images, points, channels = len(counts), max(counts) + 3, 4
    image = torch.arange(images).repeat_interleave(torch.tensor(counts))
    point = torch.cat([torch.randperm(points, generator=rng)[:n].sort().values for n in counts])
    chosen = 2 * image + torch.randint(2, image.shape, generator=rng)
    sides = torch.tensor([size[1], size[0]]) * STRIDE
    begin = torch.rand(2 * images, 2, generator=rng) * sides / 2
    end = begin + 3 + torch.rand(2 * images, 2, generator=rng) * sides / 2
    coefficients = torch.randn(images, points, channels, generator=rng).to(dtype)
    prototypes = torch.randn(images, channels, *size, generator=rng).to(dtype)
    truth = GroundTruthMasks(
        torch.rand(2 * images, *size, generator=rng) > 0.5, torch.ones(images, dtype=torch.bool)
    )
    rest = {
        "boxes": torch.cat([begin, end], dim=1),
        "masks": truth,
        "assignment": assign(image, point, chosen, images),
        "stride": STRIDE,
    }
    return coefficients.requires_grad_(), prototypes.requires_grad_(), rest


def reference_loss(
    coefficients: Tensor,
    prototypes: Tensor,
    *,
    boxes: Tensor,
    masks: GroundTruthMasks,
    assignment: Assignment,
    stride: int,
) -> Tensor:
    """The definition, point by point."""
    height, width = prototypes.shape[2:]
    x, y = torch.arange(width), torch.arange(height)[:, None]
    total = 0 * (coefficients.sum() + prototypes.sum())
    for image, point, number in zip(*assignment[:3], strict=True):
        logits = torch.einsum("k,khw->hw", coefficients[image, point], prototypes[image])
        left, top, right, bottom = boxes[number].to(logits) / stride
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        true = masks.masks[number].to(logits)
        bce = F.binary_cross_entropy_with_logits(logits, true, reduction="none")
        share = (bce * inside).sum() / (height * width)
        fraction = (right - left) * (bottom - top) / (height * width)
        total = total + masks.known[image] * share / fraction / assignment.counts[image]
    return total / masks.known.sum().clamp(min=1)


def gradients(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, inputs)


def golden_case(
    golden: dict[str, np.ndarray], case: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Predictions from the recipe, with the stored targets and assignment."""
    seed, height, width = {
        "A_perobject": (101, 128, 160),
        "C_crowded": (103, 96, 96),
        "D_empty": (104, 64, 64),
        "E_clamped": (105, 256, 256),
    }[case]
    positive = torch.from_numpy(golden[f"{case}/fg"])  # (B, A)
    images, points = positive.shape
    rs = np.random.RandomState(seed)
    for stride in (8, 16, 32):
        rs.standard_normal((images, 144, height // stride, width // stride))
    coefficients = torch.from_numpy(rs.standard_normal((images, 32, points)).astype(np.float32))
    prototypes = 0.3 * rs.standard_normal((images, 32, height // 4, width // 4))
    targets = torch.from_numpy(golden[f"{case}/targets"])
    center = targets[:, 2:4] * torch.tensor([width, height])
    half = targets[:, 4:6] * torch.tensor([width, height]) / 2
    per_image = torch.bincount(targets[:, 0].long(), minlength=images)
    first = per_image.cumsum(0) - per_image
    image, point = positive.nonzero(as_tuple=True)
    within = torch.from_numpy(golden[f"{case}/gt_idx"].astype(np.int64))[image, point]
    known = torch.ones(images, dtype=torch.bool)
    rest = {
        "boxes": torch.cat([center - half, center + half], dim=1),
        "masks": GroundTruthMasks(torch.from_numpy(golden[f"{case}/masks"]), known),
        "assignment": assign(image, point, within + first[image], images),
        "stride": STRIDE,
    }
    prototypes = torch.from_numpy(prototypes.astype(np.float32)).to(dtype)
    return coefficients.to(dtype).requires_grad_(), prototypes.requires_grad_(), rest


@pytest.mark.parametrize("case", ["A_perobject", "C_crowded", "D_empty", "E_clamped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_published_numbers(case: str, dtype: torch.dtype, shared_dir: Path) -> None:
    golden = golden_arrays(shared_dir, "losses")
    coefficients, prototypes, rest = golden_case(golden, case, dtype)
    loss = 2.5 * mask_loss(coefficients.transpose(1, 2), prototypes, **rest)
    exact = dtype is torch.float64
    expected = golden[f"{case}/items64" if exact else f"{case}/items"][1]
    assert loss.item() == pytest.approx(expected, rel=1e-7 if exact else 1e-6)
    if case == "D_empty":
        return
    found = gradients(loss * len(prototypes), coefficients, prototypes)
    for name, grad in zip(("mask_coef", "proto"), found, strict=True):
        values = grad.flatten()[torch.from_numpy(golden[f"{case}/idx/grad_{name}"])].numpy()
        np.testing.assert_allclose(values, golden[f"{case}/val/grad_{name}"], atol=1e-8)
        mean, std, largest = golden[f"{case}/stats/grad_{name}"]
        assert grad.mean().item() == pytest.approx(mean, rel=1e-3, abs=1e-10)
        assert grad.std(correction=0).item() == pytest.approx(std, rel=1e-5)
        assert grad.abs().max().item() == pytest.approx(largest, rel=1e-5)


@pytest.mark.parametrize("cells", [1, 500, 2**22])
@pytest.mark.parametrize("counts", [[3], [2, 0, 7, 1], [0, 40, 5, 5]])
def test_chunk_size_does_not_change_the_result(
    counts: list[int], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_CELLS_CPU", cells)
    monkeypatch.setattr(module, "CHUNK_ROUNDING", 2)
    coefficients, prototypes, rest = problem(counts)
    expected = reference_loss(coefficients, prototypes, **rest)
    loss = mask_loss(coefficients, prototypes, **rest)
    assert expected > 0.1
    torch.testing.assert_close(loss, expected)
    inputs = (coefficients, prototypes)
    torch.testing.assert_close(gradients(3 * loss, *inputs), gradients(3 * expected, *inputs))
    with torch.no_grad():
        torch.testing.assert_close(mask_loss(coefficients, prototypes, **rest), expected.detach())


def test_gradients_pass_gradcheck() -> None:
    coefficients, prototypes, rest = problem([2, 3], size=(3, 4))
    torch.autograd.gradcheck(lambda c, p: mask_loss(c, p, **rest), (coefficients, prototypes))


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=8).map(lambda n: sorted(n, reverse=True)),
    st.integers(0, 300),
)
def test_chunks_contain_every_point_once_and_have_a_maximum_size(
    counts: list[int], room: int
) -> None:
    points = [
        (image, index)
        for chunk in module._chunks(counts, room)
        for image in range(chunk.images)
        for index in range(chunk.first, min(chunk.first + chunk.size, counts[image]))
    ]
    assert sorted(points) == [
        (image, n) for image, count in enumerate(counts) for n in range(count)
    ]
    for chunk in module._chunks(counts, room):
        assert chunk.size == 1 or chunk.images * chunk.size <= room


def test_value_by_hand() -> None:
    """A logit of 0 has a loss of log 2; a box with an area of 5.5 cells contains 6 corners."""
    boxes = torch.tensor([[4.0, 4, 15, 12]])  # 1, 1 to 3.75, 3 in cells
    truth = GroundTruthMasks(torch.ones(1, 5, 5, dtype=torch.bool), torch.tensor([True, True]))
    assignment = Assignment(*torch.tensor([[0], [1], [0]]), torch.ones(1), [1, 0])
    loss = mask_loss(
        torch.zeros(2, 3, 2),
        torch.ones(2, 2, 5, 5),
        boxes=boxes,
        masks=truth,
        assignment=assignment,
        stride=4,
    )
    assert loss.item() == pytest.approx(6 * log(2) / 5.5 / 2)  # one of two images has no objects


def test_images_with_unknown_masks_contribute_nothing() -> None:
    coefficients, prototypes, rest = problem([3, 4, 2])
    rest["masks"] = rest["masks"]._replace(known=torch.tensor([True, False, True]))
    loss = mask_loss(coefficients, prototypes, **rest)
    torch.testing.assert_close(loss, reference_loss(coefficients, prototypes, **rest))
    for grad in gradients(loss, coefficients, prototypes):
        assert grad[0].any()
        assert grad[2].any()
        assert not grad[1].any()


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("counts", [[0, 0], [2, 1]])
def test_loss_without_targets_is_zero(counts: list[int], known: bool) -> None:
    coefficients, prototypes, rest = problem(counts)
    rest["masks"] = rest["masks"]._replace(known=torch.tensor([known, known]))
    loss = mask_loss(coefficients, prototypes, **rest)
    has_targets = known and any(counts)
    assert (loss > 0) == has_targets
    for grad in gradients(loss, coefficients, prototypes):
        assert torch.isfinite(grad).all()
        assert bool(grad.any()) == has_targets


def test_no_masks_of_another_size() -> None:
    """A batch without objects has empty masks at the stride of the data."""
    coefficients, prototypes, rest = problem([0])
    empty = torch.zeros(0, 24, 36, dtype=torch.bool)
    rest["masks"], rest["boxes"] = rest["masks"]._replace(masks=empty), torch.zeros(0, 4)
    assert mask_loss(coefficients, prototypes, **rest) == 0


def test_loss_of_boxes_without_area_is_finite() -> None:
    coefficients, prototypes, rest = problem([6])
    rest["boxes"] = torch.tensor([[8.0, 8, 8, 8], [4.0, 4, 4.001, 4.001]])
    loss = mask_loss(coefficients, prototypes, **rest)
    assert 0 <= loss < 1000
    assert all(torch.isfinite(grad).all() for grad in gradients(loss, coefficients, prototypes))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_masks_of_another_size_are_resampled(dtype: torch.dtype) -> None:
    coefficients, prototypes, rest = problem([4, 4])
    known = rest["masks"].known
    large = torch.rand(4, 24, 36) > 0.5
    rest["masks"] = GroundTruthMasks(large[:, ::4, ::4], known)
    expected = mask_loss(coefficients, prototypes, **rest)
    rest["masks"] = GroundTruthMasks(large.to(dtype), known)
    assert mask_loss(coefficients, prototypes, **rest) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_predictions_are_computed_in_float32(dtype: torch.dtype) -> None:
    coefficients, prototypes, rest = problem([5, 9], dtype=torch.float32)
    half = [x.detach().to(dtype).requires_grad_() for x in (coefficients, prototypes)]
    single = [x.detach().float().requires_grad_() for x in half]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mask_loss(*half, **rest)
    expected = mask_loss(*single, **rest)
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()
    for grad, wanted in zip(gradients(loss, *half), gradients(expected, *single), strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, wanted.to(dtype))


def test_memory_does_not_grow_with_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """One crowded image among many: its 800 points have 819,200 logits on 32 x 32 cells."""
    monkeypatch.setattr(module, "CHUNK_CELLS_CPU", 2**16)
    coefficients, prototypes, rest = problem([3, 800, *[5] * 6], size=(32, 32))
    with LargestStorage() as largest:
        gradients(mask_loss(coefficients, prototypes, **rest), coefficients, prototypes)
    assert 2**15 < largest.numbers <= 2**16
