"""The blocks of ELAN networks: aggregation, downsampling, spatial pyramid pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvBlock


class Elan(nn.Module):
    """Efficient layer aggregation: a chain of 3 x 3 convolutions whose steps are all looked at.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        width: channels of the two 1 x 1 convolutions that read the input.
        chain_width: channels of each 3 x 3 convolution.
        chain_length: how many of them there are.
        keep_every: 2 merges every second step of the chain, as the backbone does; 1 all of them, as
            the neck does.
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
        for number, block in enumerate(self.chain, start=1):
            step = block(step)
            if number % self.keep_every == 0:
                kept.append(step)
        return self.merge(torch.cat(kept[::-1], dim=1))  # the last step first, as published


class Transition(nn.Module):
    """Halves a map's size, by a strided convolution and by max-pooling side by side.

    Args:
        in_channels: of the input.
        branch_channels: of each branch; the output has twice as many.
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
        """Both branches, then other maps that already have the smaller size."""
        return torch.cat([self.conv_branch(x), self.pool_branch(self.pool(x)), *others], dim=1)


class SPPCSPC(nn.Module):
    """Spatial pyramid pooling on one of two partial paths: context of up to 13 x 13 cells."""

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
        for _ in range(3):  # two 5 x 5 maxima in a row are one of 9 x 9, three one of 13 x 13
            pooled.append(F.max_pool2d(pooled[-1], kernel_size=5, stride=1, padding=2))
        context = self.pyramid(torch.cat(pooled, dim=1))
        return self.merge(torch.cat([context, self.shortcut(x)], dim=1))
