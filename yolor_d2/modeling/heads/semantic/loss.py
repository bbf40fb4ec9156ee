"""Losses of semantic segmentation: sigmoid focal loss and softmax dice loss.

Logits are the largest tensor of a training step. Labels are therefore never expanded to one-hot
maps, and the forward and backward passes process bands of rows: apart from the logits and their
gradient, all tensors have the size of a band.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ....errors import ConfigError
from ...layers.functional import at_least_float32, divergence, softplus
from ...reduce import over_processes

FOCAL_ALPHA = 0.25  # weight of a pixel's true class; the other classes have 1 - FOCAL_ALPHA
BANDS = 8  # more bands need less memory but more kernel launches


def reduce_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Reduce labels (N, H, W) to the size (h, w) of logits; H / h = W / w must be an integer.

    A cell gets the label of its top left pixel, as in nearest-neighbor interpolation.
    """
    height, width = labels.shape[-2:]
    factor = max(height // size[0], 1)
    if (height, width) != (size[0] * factor, size[1] * factor):
        raise ConfigError(
            f"semantic targets of {height} x {width} do not fit logits of {size[0]} x {size[1]}: "
            "the stride of the targets (INPUT.SEM_SEG_STRIDE) must divide that of the head"
        )
    return labels[:, ::factor, ::factor]


def focal_and_dice(
    logits: Tensor, labels: Tensor, *, ignore_value: int = 255
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of pixels with one class each.

    Args:
        logits: (N, S, h, w).
        labels: (N, h, w) of any integer type.
        ignore_value: label of pixels that are left out.

    Returns:
        The focal loss, averaged over valid pixels and classes, and 1 - dice of the softmax
        probabilities, over all valid pixels and classes at once. Both are 0 without valid pixels.
    """
    valid = labels != ignore_value  # (N, h, w)
    targets = labels.long().masked_fill(~valid, 0)  # (N, h, w)
    pixels, processes = over_processes(torch.count_nonzero(valid))
    return _FocalAndDice.apply(logits, targets, valid, pixels, processes)


def map_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean divergence of the class probabilities of pixels from those of a teacher.

    Args:
        logits: (N, S, h, w).
        teacher: logits (N, S, H, W), which are resized.
    """
    if teacher.shape[-2:] != logits.shape[-2:]:
        teacher = F.interpolate(teacher, size=logits.shape[-2:], mode="bilinear")
    loss = divergence(at_least_float32(logits), at_least_float32(teacher), dim=1).sum()
    number = logits[:, 0].numel()
    pixels, processes = over_processes(torch.full((), number, device=logits.device))  # no copy
    return loss * processes / pixels


class _FocalAndDice(torch.autograd.Function):
    """Both losses with their derivatives, for p = sigmoid(x) and r = softmax(x) at a pixel.

    * Focal: (1 - alpha) p^2 softplus(x) for a class that is not the true one, and
      alpha (1 - p)^2 softplus(-x) for the true class: the same function at -x, with another factor.
    * Dice: the probabilities of a pixel sum to 1, and so does its target. The loss of V pixels is
      1 - (2 sum(r of the true class) + 1) / (2 V + 1): linear in r, with a factor known in advance.

    In distributed training, the sums of a process are multiplied by the number of processes, so
    that the mean of the losses over processes is the loss of all V pixels.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, valid: Tensor, pixels: Tensor, processes: int
    ) -> tuple[Tensor, Tensor]:
        other_losses, true_losses, overlaps = [], [], []
        log_totals = []  # (N, 1, rows, w) per band: log of the denominator of softmax
        for rows in _bands(logits.shape[2]):
            x, target, weight = _band(logits, targets, valid, rows)
            true_x = x.gather(1, target)  # (N, 1, rows, w)
            log_total = x.logsumexp(dim=1, keepdim=True)
            log_totals.append(log_total)
            overlaps.append(((true_x - log_total).exp() * weight).sum())
            true_losses.append((_focal(-true_x) * weight).sum())
            all_classes = _focal(x).sum(dim=1, keepdim=True)
            other_losses.append(((all_classes - _focal(true_x)) * weight).sum())
        ctx.save_for_backward(logits, targets, valid, pixels, torch.cat(log_totals, dim=2))
        ctx.processes = processes
        focal = (1 - FOCAL_ALPHA) * _total(other_losses) + FOCAL_ALPHA * _total(true_losses)
        dice = 1 - (2 * processes * _total(overlaps) + 1) / (2 * pixels + 1)
        return focal * processes / (pixels * logits.shape[1]).clamp(min=1), dice

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, focal_grad: Tensor, dice_grad: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        logits, targets, valid, pixels, log_totals = ctx.saved_tensors
        grad = torch.empty_like(logits)  # (N, S, h, w)
        focal_grad = focal_grad * ctx.processes / (pixels * logits.shape[1]).clamp(min=1)
        dice_grad = dice_grad * -2 * ctx.processes / (2 * pixels + 1)
        for rows in _bands(logits.shape[2]):
            x, target, weight = _band(logits, targets, valid, rows)
            true_x = x.gather(1, target)  # (N, 1, rows, w)
            log_total = log_totals[:, :, rows]
            true_r = (true_x - log_total).exp()
            dice_scale = dice_grad * weight * true_r
            true_grad = -FOCAL_ALPHA * focal_grad * weight * _focal_slope(-true_x)
            true_grad += dice_scale * (1 - true_r)
            band = _focal_slope(x).mul_((1 - FOCAL_ALPHA) * focal_grad * weight)
            band.sub_((x - log_total).exp_().mul_(dice_scale))
            grad[:, :, rows] = band.scatter_(1, target, true_grad)
        return grad, None, None, None, None


def _focal(x: Tensor) -> Tensor:
    """Value of p^2 softplus(x)."""
    return x.sigmoid().square_().mul_(softplus(x))


def _focal_slope(x: Tensor) -> Tensor:
    """Derivative of `_focal`, p^2 (2 (1 - p) softplus(x) + p)."""
    p = x.sigmoid()
    slope = softplus(x).mul_(1 - p).mul_(2).add_(p)
    return slope.mul_(p.square_())


def _bands(height: int) -> Iterator[slice]:
    """Slices of rows, at most BANDS."""
    size = -(-height // BANDS)
    return (slice(start, start + size) for start in range(0, height, size))


def _band(
    logits: Tensor, targets: Tensor, valid: Tensor, rows: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, S, rows, w), targets and weights (N, 1, rows, w) of a band."""
    x = at_least_float32(logits[:, :, rows])
    return x, targets[:, None, rows], valid[:, None, rows].to(x.dtype)


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum()
