"""A prediction branch: on each map a tower of two blocks, then a last convolution."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..layers import ConvBlock


def make_tower(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(in_channels, width, 3), ConvBlock(width, width, 3))


def by_point(
    features: Mapping[str, Tensor], towers: nn.ModuleDict, predictors: nn.ModuleDict
) -> Tensor:
    """What a branch says of all points (N, A, channels): map after map, each row by row."""
    maps = [predictors[level](tower(features[level])) for level, tower in towers.items()]
    return torch.cat([each.flatten(2).transpose(1, 2) for each in maps], dim=1)
