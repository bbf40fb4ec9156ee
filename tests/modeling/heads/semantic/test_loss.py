"""Semantic losses, against one-hot targets with autograd and against golden numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from yolor_d2.modeling.heads.semantic.loss import focal_and_dice, reduce_labels

from ...golden import golden_arrays

CASES = {  # seed, batch, height, width
    "A_perobject": (101, 2, 128, 160),
    "C_crowded": (103, 1, 96, 96),
    "D_empty": (104, 1, 64, 64),
    "E_clamped": (105, 1, 256, 256),
}


def golden_logits(seed: int, batch: int, height: int, width: int) -> Tensor:
    """Semantic logits of a golden case; they are drawn after all other predictions."""
    rs = np.random.RandomState(seed)
    sizes = [(height // s, width // s) for s in (8, 16, 32)]
    for size in sizes:
        rs.standard_normal((batch, 144, *size))
    rs.standard_normal((batch, 32, sum(h * w for h, w in sizes)))
    rs.standard_normal((batch, 32, height // 4, width // 4))
    logits = 2 * rs.standard_normal((batch, 173, height // 4, width // 4)) - 2
    return torch.from_numpy(logits.astype(np.float32))


def random_case(
    *shape: int, share_ignored: float = 0.3, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Logits that require a gradient, and labels with ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    n, classes, h, w = shape
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).mul(3).to(dtype)
    labels = torch.randint(0, classes, (n, h, w), generator=generator)
    labels[torch.rand(n, h, w, generator=generator) < share_ignored] = 255
    return logits.requires_grad_(), labels


def multi_hot_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The published losses, for pixels with any number of classes.

    Args:
        logits: the classes are axis 1.
        targets: of the same shape, 1 for the classes of a pixel, else 0.
    """
    targets = targets.to(logits.dtype)
    focal = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2, reduction="mean")
    p = logits.softmax(dim=1)
    return focal, 1 - (2 * (p * targets).sum() + 1) / ((p + targets).sum() + 1)


def reference_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, with one-hot targets of the valid pixels."""
    valid = labels != 255
    pixels = logits.permute(0, 2, 3, 1)[valid]  # (V, S)
    return multi_hot_losses(pixels, F.one_hot(labels[valid], logits.shape[1]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "suffix", "tolerance"), [(torch.float32, "", 1e-5), (torch.float64, "64", 1e-9)]
)
def test_multi_hot_losses_equal_the_published_ones(
    shared_dir: Path, case: str, dtype: torch.dtype, suffix: str, tolerance: float
) -> None:
    golden = golden_arrays(shared_dir, "losses")
    seed, batch, height, width = CASES[case]
    drawn = golden_logits(seed, batch, height, width)
    index = golden[f"{case}/idx/in_semantic"]
    np.testing.assert_array_equal(drawn.flatten()[index], golden[f"{case}/val/in_semantic"])
    logits = drawn.to(dtype).requires_grad_()
    shape = tuple(golden[f"{case}/semantic_target_shape"])
    bits = np.unpackbits(golden[f"{case}/semantic_target_bits"], count=int(np.prod(shape)))
    focal, dice = multi_hot_losses(logits, torch.from_numpy(bits.reshape(shape)))
    terms = torch.stack([25 * focal, 1.25 * dice])
    expected = golden[f"{case}/items{suffix}"][4:]
    np.testing.assert_allclose(terms.detach().numpy(), expected, rtol=tolerance)
    if f"{case}/val/grad_semantic" in golden:
        (terms.sum() * batch).backward()
        grad = logits.grad.flatten()
        chosen = grad[golden[f"{case}/idx/grad_semantic"]]
        np.testing.assert_allclose(
            chosen, golden[f"{case}/val/grad_semantic"], rtol=1e-5, atol=1e-10
        )
        mean, std, largest = golden[f"{case}/stats/grad_semantic"]
        assert grad.double().std(correction=0).item() == pytest.approx(std, rel=1e-5)
        assert grad.abs().max().item() == pytest.approx(largest, rel=1e-5)
        assert grad.double().mean().item() == pytest.approx(mean, rel=1e-4)


# 37 rows make bands of 5 and a smaller last one.
@pytest.mark.parametrize("shape", [(2, 5, 37, 6), (1, 3, 1, 1), (3, 171, 8, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_losses_and_gradients_equal_those_of_one_hot_targets(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    logits, labels = random_case(*shape, share_ignored=0.3 if shape[2] > 1 else 0)
    logits = logits.detach().contiguous(memory_format=layout).requires_grad_()
    for weights in ((25, 1.25), (1, 0), (0, 1)):
        grads = []
        for losses in (focal_and_dice(logits, labels), reference_losses(logits, labels)):
            total = weights[0] * losses[0] + weights[1] * losses[1]
            grads.append((total, *torch.autograd.grad(total, logits)))
        torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-15)


def test_gradients_pass_gradcheck() -> None:
    logits, labels = random_case(2, 4, 3, 2)
    assert torch.autograd.gradcheck(lambda x: focal_and_dice(x, labels), logits)


def test_values_by_hand() -> None:
    # One pixel and two classes, both with probability 1/2 under sigmoid and softmax.
    focal, dice = focal_and_dice(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert focal.item() == pytest.approx(np.log(2) / 4 * (0.25 + 0.75) / 2)
    assert dice.item() == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))


def test_multi_hot_losses_equal_those_of_labels_without_ignored_pixels() -> None:
    logits, labels = random_case(2, 7, 5, 4, share_ignored=0)
    one_hot = F.one_hot(labels, 7).permute(0, 3, 1, 2)
    expected = multi_hot_losses(logits, one_hot)
    torch.testing.assert_close(focal_and_dice(logits, labels), expected, rtol=1e-12, atol=0)


def test_ignored_pixels_have_no_influence_and_no_gradient() -> None:
    logits, labels = random_case(2, 5, 6, 4)
    ignored = (labels == 255)[:, None].expand_as(logits)
    changed = logits.detach().masked_fill(ignored, 40.0).requires_grad_()
    before, after = focal_and_dice(logits, labels), focal_and_dice(changed, labels)
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    sum(after).backward()
    assert (changed.grad[ignored] == 0).all()
    assert (changed.grad[~ignored] != 0).all()


@pytest.mark.parametrize("ignore_value", [255, -1])
def test_losses_without_labeled_pixels_are_zero_and_differentiable(ignore_value: int) -> None:
    logits, labels = random_case(2, 5, 6, 4)
    losses = focal_and_dice(logits, labels.fill_(ignore_value), ignore_value=ignore_value)
    assert [loss.item() for loss in losses] == [0, 0]
    sum(losses).backward()
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, labels = random_case(2, 171, 20, 16, dtype=dtype)
    wide = logits.detach().float().requires_grad_()
    losses, expected = focal_and_dice(logits, labels), focal_and_dice(wide, labels)
    torch.testing.assert_close(losses, expected)
    (1e4 * sum(losses)).backward()
    (1e4 * sum(expected)).backward()
    assert logits.grad.dtype == dtype
    torch.testing.assert_close(logits.grad, wide.grad.to(dtype), rtol=0.01, atol=1e-6)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([-200.0, 200.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 1, 3)
    logits.requires_grad_()
    losses = focal_and_dice(logits, torch.tensor([[[0, 1, 2]]]))
    sum(losses).backward()
    assert torch.isfinite(torch.stack(losses)).all()
    assert torch.isfinite(logits.grad).all()


def test_the_gradient_is_the_only_large_tensor() -> None:
    logits, labels = random_case(2, 31, 64, 64, dtype=torch.float32)
    size = logits.numel() * logits.element_size()
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        sum(focal_and_dice(logits, labels)).backward()
    used = [event.self_cpu_memory_usage for event in profile.events()]
    assert [memory // size for memory in used if memory > size / 4] == [1]


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_larger_labels_are_reduced_like_nearest_interpolation(factor: int) -> None:
    labels = torch.randint(0, 171, (2, 6 * factor, 5 * factor))
    expected = F.interpolate(labels[:, None].float(), size=(6, 5), mode="nearest")[:, 0].long()
    assert torch.equal(reduce_labels(labels, (6, 5)), expected)


@pytest.mark.parametrize("size", [(3, 5), (12, 5), (9, 7), (12, 15), (6, 4)])
def test_labels_with_a_different_aspect_ratio_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"do not fit logits of 6 x 5.*INPUT.SEM_SEG_STRIDE"):
        reduce_labels(torch.zeros(1, *size), (6, 5))
