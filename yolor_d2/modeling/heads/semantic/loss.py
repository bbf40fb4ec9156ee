"""What a semantic map learns: focal loss on each class, and a dice loss on the right ones.

Logits are the largest tensor of the training step. So labels never become one-hot maps, and both
losses are computed in bands of rows, forwards and backwards: beside the logits and their gradient
there are only temporaries of a band's size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchvision.ops import sigmoid_focal_loss

from ...layers.functional import softplus
from ...reduce import over_processes

FOCAL_ALPHA = 0.25  # weight of a pixel's own class; the other classes have the rest
BANDS = 8  # more need less memory, and more calls


def reduce_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (N, H, W) at the resolution of logits (h, w), H / h = W / w = a whole number.

    Of the pixels of a cell the top left one counts, as in interpolation by the nearest.
    """
    height, width = labels.shape[-2:]
    factor = max(height // size[0], 1)
    if (height, width) != (size[0] * factor, size[1] * factor):
        raise ValueError(
            f"semantic targets of {height} x {width} do not fit logits of {size[0]} x {size[1]}: "
            "the stride of the targets (INPUT.SEM_SEG_STRIDE) must divide that of the head"
        )
    return labels[:, ::factor, ::factor]


def focal_and_dice(
    logits: Tensor, labels: Tensor, *, ignore_value: int = 255
) -> tuple[Tensor, Tensor]:
    """The losses of pixels that belong to one class each.

    Args:
        logits: (N, S, h, w).
        labels: (N, h, w) of any integer type; pixels of `ignore_value` have no part in it.

    Returns:
        The focal loss, averaged over valid pixels and classes, and 1 - dice of softmax
        probabilities, over all valid pixels and classes at once. Without a valid pixel both are 0.
    """
    valid = labels != ignore_value  # (N, h, w)
    targets = labels.long().masked_fill(~valid, 0)  # (N, h, w)
    pixels, processes = over_processes(torch.count_nonzero(valid))
    return _FocalAndDice.apply(logits, targets, valid, pixels, processes)


def focal_and_dice_multi_hot(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same losses of pixels that may belong to several classes or to none, as published.

    Args:
        logits: (N, S, h, w).
        targets: (N, S, h, w), 1 for a pixel's classes.
    """
    logits = _at_least_float(logits)
    targets = targets.to(logits.dtype)
    focal = sigmoid_focal_loss(logits, targets, alpha=FOCAL_ALPHA, gamma=2, reduction="mean")
    probabilities = logits.softmax(dim=1)
    shared, total = (probabilities * targets).sum(), (probabilities + targets).sum()
    return focal, 1 - (2 * shared + 1) / (total + 1)


class _FocalAndDice(torch.autograd.Function):
    """Both losses with their derivatives, p = sigmoid(x) and r = softmax(x) at a pixel:

    * focal: of a class which is not the pixel's (1 - alpha) p^2 softplus(x); of the pixel's own
      alpha (1 - p)^2 softplus(-x), which is the same function at -x but for its factor.
    * dice: a pixel's probabilities sum up to 1, as its target does. So the loss of V pixels is
      1 - (2 sum(r of the own class) + 1) / (2 V + 1): linear in r, with a factor known beforehand.

    Each of several processes has the sums of its own pixels, times the number of processes: the
    mean of its losses with those of the others is the loss of all V pixels.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, valid: Tensor, pixels: Tensor, processes: int
    ) -> tuple[Tensor, Tensor]:
        others, own, shared = [], [], []
        log_totals = []  # per band (N, 1, rows, w): of what softmax divides by
        for rows in _bands(logits.shape[2]):
            x, target, weight = _band(logits, targets, valid, rows)
            own_x = x.gather(1, target)  # (N, 1, rows, w)
            log_total = x.logsumexp(dim=1, keepdim=True)
            log_totals.append(log_total)
            shared.append(((own_x - log_total).exp() * weight).sum())
            own.append((_focal(-own_x) * weight).sum())
            of_all = _focal(x).sum(dim=1, keepdim=True)
            others.append(((of_all - _focal(own_x)) * weight).sum())
        ctx.save_for_backward(logits, targets, valid, pixels, torch.cat(log_totals, dim=2))
        ctx.processes = processes
        focal = (1 - FOCAL_ALPHA) * _total(others) + FOCAL_ALPHA * _total(own)
        dice = 1 - (2 * processes * _total(shared) + 1) / (2 * pixels + 1)
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
            own_x = x.gather(1, target)  # (N, 1, rows, w)
            log_total = log_totals[:, :, rows]
            own_r = (own_x - log_total).exp()
            dice_scale = dice_grad * weight * own_r
            own = -FOCAL_ALPHA * focal_grad * weight * _focal_slope(-own_x)
            own += dice_scale * (1 - own_r)
            band = _focal_slope(x).mul_((1 - FOCAL_ALPHA) * focal_grad * weight)
            band.sub_((x - log_total).exp_().mul_(dice_scale))
            grad[:, :, rows] = band.scatter_(1, target, own)
        return grad, None, None, None, None


def _focal(x: Tensor) -> Tensor:
    """p^2 softplus(x)"""
    return x.sigmoid().square_().mul_(softplus(x))


def _focal_slope(x: Tensor) -> Tensor:
    """The derivative, p^2 (2 (1 - p) softplus(x) + p)."""
    p = x.sigmoid()
    slope = softplus(x).mul_(1 - p).mul_(2).add_(p)
    return slope.mul_(p.square_())


def _bands(height: int) -> Iterator[slice]:
    """All rows in at most BANDS slices."""
    size = -(-height // BANDS)
    return (slice(start, start + size) for start in range(0, height, size))


def _band(
    logits: Tensor, targets: Tensor, valid: Tensor, rows: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, S, rows, w), targets and weights (N, 1, rows, w) of some rows."""
    x = _at_least_float(logits[:, :, rows])
    return x, targets[:, None, rows], valid[:, None, rows].to(x.dtype)


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum()


def _at_least_float(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
