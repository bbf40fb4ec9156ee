"""Blocks of ELAN networks: aggregation, downsampling, spatial pyramid pooling."""

import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvBlock
from .functional import concatenate


class Elan(nn.Module):
    """Efficient layer aggregation: a chain of 3 x 3 convolutions, whose outputs are merged.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels of the two 1 x 1 convolutions on the input.
        chain_width: channels of each 3 x 3 convolution.
        chain_length: number of 3 x 3 convolutions.
        keep_every: merge every n-th output of the chain: 2 in the backbone, 1 in the neck.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        chain_width: int,
        chain_length: int,
        keep_every: int,
    ) -> None:
        super().__init__()
        self.keep_every = keep_every
        self.shortcut = ConvBlock(in_channels, width, 1)
        self.entry = ConvBlock(in_channels, width, 1)
        self.chain = nn.ModuleList(
            ConvBlock(chain_width if step else width, chain_width, 3)
            for step in range(chain_length)
        )
        merged = 2 * width + chain_length // keep_every * chain_width
        self.merge = ConvBlock(merged, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        step = self.entry(x)
        kept = [self.shortcut(x), step]
        for index, block in enumerate(self.chain, start=1):
            step = block(step)
            if index % self.keep_every == 0:
                kept.append(step)
        return self.merge(concatenate(kept[::-1]))  # last output first, as published


class Transition(nn.Module):
    """Downsampling by 2 with two parallel branches: strided convolution and max-pooling.

    Args:
        in_channels: channels of the input.
        branch_channels: channels of each branch; the output has twice as many.
    """

    def __init__(self, in_channels: int, branch_channels: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.pool_branch = ConvBlock(in_channels, branch_channels, 1)
        self.conv_branch = nn.Sequential(
            ConvBlock(in_channels, branch_channels, 1),
            ConvBlock(branch_channels, branch_channels, 3, stride=2),
        )

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Concatenate both branches and other maps, which already have the smaller size."""
        return concatenate([self.conv_branch(x), self.pool_branch(self.pool(x)), *others])


class SPPCSPC(nn.Module):
    """Cross stage partial spatial pyramid pooling: context of up to 13 x 13 cells."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.shortcut = ConvBlock(in_channels, out_channels, 1)
        self.entry = nn.Sequential(
            ConvBlock(in_channels, out_channels, 1),
            ConvBlock(out_channels, out_channels, 3),
            ConvBlock(out_channels, out_channels, 1),
        )
        self.pyramid = nn.Sequential(
            ConvBlock(4 * out_channels, out_channels, 1),
            ConvBlock(out_channels, out_channels, 3),
        )
        self.merge = ConvBlock(2 * out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.entry(x)]
        for _ in range(3):  # two 5 x 5 poolings in a row equal one of 9 x 9, three one of 13 x 13
            pooled.append(F.max_pool2d(pooled[-1], kernel_size=5, stride=1, padding=2))
        context = self.pyramid(concatenate(pooled))
        return self.merge(concatenate([context, self.shortcut(x)]))
