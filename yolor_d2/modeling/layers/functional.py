"""Functions shared by several layers or losses."""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Above this, softplus(x) equals x in float64.
SOFTPLUS_THRESHOLD = 40.0


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact in float64, unlike with PyTorch's default threshold of 20."""
    return F.softplus(x, threshold=SOFTPLUS_THRESHOLD)


def divergence(x: Tensor, target: Tensor, *, dim: int) -> Tensor:
    """Kullback-Leibler divergence of the softmax of logits from that of target logits, over dim."""
    log_target = target.log_softmax(dim)
    return (log_target.exp() * (log_target - x.log_softmax(dim))).sum(dim)


def binary_divergence(x: Tensor, target: Tensor) -> Tensor:
    """The same for the sigmoid of each logit."""
    return softplus(x) - softplus(target) + target.sigmoid() * (target - x)


def at_least_float32(x: Tensor) -> Tensor:
    """The values in float32, or as they are in float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pick(values: Tensor, points: Tensor) -> Tensor:
    """The rows of values (N, A, X) at points (N, M): (N, M, X)."""
    return values.gather(1, points[:, :, None].expand(-1, -1, values.shape[2]))


def cells_inside(boxes: Tensor, *, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows (..., h) and columns (..., w) of cells whose top left corners are in boxes (..., 4)."""
    left, top, right, bottom = boxes.unsqueeze(-2).unbind(-1)  # (..., 1) each
    x = torch.arange(width, device=boxes.device)
    y = torch.arange(height, device=boxes.device)
    return (y >= top) & (y < bottom), (x >= left) & (x < right)


def upsample(x: Tensor) -> Tensor:
    """Repeat each cell of a map twice in both directions."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attend from queries (..., T, E) to keys and values (..., L, E): (..., T, E).

    Args:
        query, key, value: of each head.
        mask: broadcasts to (..., T, L); None: all tokens are attended to.
        causal: query t attends to the first t + 1 tokens only.
        scale: of the products; None: E ** -0.5.
    """
    # On CPUs, the backward pass of PyTorch's kernel takes over ten times as long in bf16.
    is_slow = query.device.type == "cpu" and torch.is_grad_enabled()
    dtype = torch.promote_types(query.dtype, torch.float32) if is_slow else query.dtype
    with torch.autocast(query.device.type, enabled=False) if is_slow else nullcontext():
        y = F.scaled_dot_product_attention(
            query.to(dtype),
            key.to(dtype),
            value.to(dtype),
            attn_mask=mask,
            is_causal=causal,
            scale=scale,
        )
    return y.to(query.dtype)


def concatenate(maps: list[Tensor]) -> Tensor:
    """Concatenate maps (N, C, H, W) along their channels.

    On CPUs the gradients of the maps are dense. Those of torch.cat are slices, for which other
    kernels take several times as long if they are channels_last.
    """
    if maps[0].device.type == "cpu" and any(each.requires_grad for each in maps):
        return _Concatenate.apply(*maps)
    return torch.cat(maps, dim=1)


class _Concatenate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.channels = [each.shape[1] for each in maps]
        return torch.cat(maps, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.clone() for part in gradient.split(ctx.channels, dim=1))


def keep_layout(x: Tensor) -> Tensor:
    """A view of a map (N, C, H, W), whose gradient will have its memory layout on CPUs.

    Operators without channels_last send other gradients back, for which kernels are slow.
    """
    if not (x.requires_grad and x.device.type == "cpu"):
        return x
    is_last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_last else torch.contiguous_format
    view = x.view_as(x)
    view.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))
    return view
