"""Blocks of GELAN networks: reparameterized aggregation, downsampling, pooling, attention."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvBlock, SiLU
from .functional import attend, concatenate


class RepConv(nn.Module):
    """Parallel 3 x 3 and 1 x 1 convolutions, summed before the activation.

    `fuse()` makes them one 3 x 3 convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3x3 = ConvBlock(channels, channels, 3, activation=False)
        self.conv1x1: ConvBlock | None = ConvBlock(channels, channels, 1, activation=False)
        self.activation = SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3x3(x)
        if self.conv1x1 is not None:
            y = y + self.conv1x1(x)
        return self.activation(y)

    @torch.no_grad()
    def fuse(self) -> None:
        """Add the 1 x 1 kernel to the center of the 3 x 3 kernel, after folding the batch norms."""
        if self.conv1x1 is None:
            return
        self.conv3x3.fuse()
        self.conv1x1.fuse()
        whole, center = self.conv3x3.conv, self.conv1x1.conv
        whole.get_parameter("weight").add_(F.pad(center.weight, [1, 1, 1, 1]))
        whole.get_parameter("bias").add_(center.get_parameter("bias"))
        self.conv1x1 = None


class RepBottleneck(nn.Module):
    """Two 3 x 3 convolutions, the first a RepConv, with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rep = RepConv(channels)
        self.conv = ConvBlock(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.rep(x))


class RepNCSP(nn.Module):
    """Cross stage partial: bottlenecks in a row, in parallel with a shortcut.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; both branches have half as many.
        bottlenecks: number of bottlenecks.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bottlenecks: int) -> None:
        super().__init__()
        width = out_channels // 2
        self.entry = ConvBlock(in_channels, width, 1)
        self.shortcut = ConvBlock(in_channels, width, 1)
        self.bottlenecks = nn.Sequential(*(RepBottleneck(width) for _ in range(bottlenecks)))
        self.merge = ConvBlock(2 * width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(concatenate([self.bottlenecks(self.entry(x)), self.shortcut(x)]))


class SplitElan(nn.Module):
    """Generalized ELAN: two steps in a row on half of the channels; all outputs are merged.

    `fuse()` computes the halves by a convolution each: every convolution that reads a slice of a
    channels_last map copies it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels of the 1 x 1 convolution on the input; a step has half as many.
        step: builds a step from its number of channels.
        detached_half: compute the second half of the outputs by a convolution of its own, which
            sends no gradient to the layers before it, as gyolo's neck does for captions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        step: Callable[[int], nn.Module],
        detached_half: bool = False,
    ) -> None:
        super().__init__()
        self.entry: ConvBlock | None = ConvBlock(in_channels, width, 1)
        self.halves = nn.ModuleList()  # of `entry`, if fused
        self.steps = nn.ModuleList(step(width // 2) for _ in range(2))
        merge = HalfDetachedConv if detached_half else partial(ConvBlock, kernel_size=1)
        self.merge = merge(2 * width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.entry is None:
            kept = [half(x) for half in self.halves]
        else:
            kept = list(self.entry(x).chunk(2, dim=1))
        for step in self.steps:
            kept.append(step(kept[-1]))
        return self.merge(concatenate(kept))

    def fuse(self) -> None:
        """Split the first convolution, after folding its batch norm."""
        if self.entry is None:
            return
        self.entry.fuse()
        self.halves.extend(self.entry.chunk(2))
        self.entry = None


class Elan3x3(SplitElan):
    """ELAN of small GELANs: a step is one 3 x 3 convolution."""

    def __init__(self, in_channels: int, out_channels: int, *, width: int) -> None:
        super().__init__(in_channels, out_channels, width=width, step=_plain_step)


class RepNCSPELAN(SplitElan):
    """GELAN's block: a step is a RepNCSP and a 3 x 3 convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        bottlenecks: int,
        detached_half: bool = False,
    ) -> None:
        step = partial(_csp_step, bottlenecks=bottlenecks)
        super().__init__(
            in_channels, out_channels, width=width, step=step, detached_half=detached_half
        )


def _plain_step(channels: int) -> nn.Module:
    return ConvBlock(channels, channels, 3)


def _csp_step(channels: int, *, bottlenecks: int) -> nn.Module:
    csp = RepNCSP(channels, channels, bottlenecks=bottlenecks)
    return nn.Sequential(csp, ConvBlock(channels, channels, 3))


class HalfDetachedConv(nn.Module):
    """Two 1 x 1 convolutions for half of the outputs each; the second detaches its input.

    `fuse()` makes them one convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.attached = ConvBlock(in_channels, out_channels // 2, 1)
        self.detached: ConvBlock | None = ConvBlock(in_channels, out_channels // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.detached is None:
            return self.attached(x)
        return concatenate([self.attached(x), self.detached(x.detach())])

    @torch.no_grad()
    def fuse(self) -> None:
        """Stack both kernels, after folding the batch norms."""
        if self.detached is None:
            return
        self.attached.fuse()
        self.detached.fuse()
        first, second = self.attached.conv, self.detached.conv
        for name in ("weight", "bias"):
            upper, lower = first.get_parameter(name), second.get_parameter(name)
            setattr(first, name, nn.Parameter(torch.cat([upper, lower]), upper.requires_grad))
        first.out_channels += second.out_channels
        self.detached = None


class AConv(nn.Module):
    """Downsampling by 2: average of 2 x 2 cells, then a strided 3 x 3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBlock(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        averaged = F.avg_pool2d(x, kernel_size=2, stride=1)  # (N, C, H - 1, W - 1)
        return self.conv(averaged)  # (N, C', H / 2, W / 2)


class ADown(nn.Module):
    """Downsampling by 2: average of 2 x 2 cells, then strided convolution and max-pooling.

    Each has half of the channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_branch = ConvBlock(in_channels // 2, out_channels // 2, 3, stride=2)
        self.pool_branch = ConvBlock(in_channels // 2, out_channels // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        averaged = F.avg_pool2d(x, kernel_size=2, stride=1)  # (N, C, H - 1, W - 1)
        first, second = averaged.chunk(2, dim=1)
        pooled = F.max_pool2d(second, kernel_size=3, stride=2, padding=1)  # (N, C/2, H/2, W/2)
        return concatenate([self.conv_branch(first), self.pool_branch(pooled)])


class SPPELAN(nn.Module):
    """Spatial pyramid pooling: context of up to 13 x 13 cells.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; the pooled maps have half as many.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = out_channels // 2
        self.entry = ConvBlock(in_channels, width, 1)
        self.merge = ConvBlock(4 * width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.entry(x)]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], kernel_size=5, stride=1, padding=2))
        return self.merge(concatenate(pooled))


class PSA(nn.Module):
    """Partial self-attention: one transformer layer of convolutions, on half of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.entry = ConvBlock(channels, 2 * half, 1)
        self.attention = ConvAttention(half)
        self.mlp = nn.Sequential(
            ConvBlock(half, 2 * half, 1), ConvBlock(2 * half, half, 1, activation=False)
        )
        self.merge = ConvBlock(2 * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, y = self.entry(x).chunk(2, dim=1)
        y = y + self.attention(y)
        y = y + self.mlp(y)
        return self.merge(concatenate([kept, y]))


class ConvAttention(nn.Module):
    """Self-attention over all cells of a map; a depthwise convolution encodes their positions.

    Args:
        channels: of input and output. Heads have equal parts of about 64, or more; queries and keys
            have half as many as values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        heads = max(1, channels // 64)
        self.heads = next(number for number in range(heads, 0, -1) if channels % number == 0)
        self.value_dim = channels // self.heads
        self.key_dim = self.value_dim // 2
        self.qkv = ConvBlock(
            channels, self.heads * (2 * self.key_dim + self.value_dim), 1, activation=False
        )
        self.position = ConvBlock(channels, channels, 3, groups=channels, activation=False)
        self.project = ConvBlock(channels, channels, 1, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).flatten(2).unflatten(1, (self.heads, -1))  # (N, heads, 2 K + V, H W)
        query, key, value = qkv.split([self.key_dim, self.key_dim, self.value_dim], dim=2)
        mixed = attend(query.mT, key.mT, value.mT)  # (N, heads, H W, V)
        positions = self.position(value.reshape(x.shape))  # (N, C, H, W)
        return self.project(mixed.mT.reshape(x.shape) + positions)
