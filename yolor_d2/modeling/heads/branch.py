"""Prediction branches: per map, a tower of two blocks and a predictor (last convolution)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..layers import ConvBlock


def make_tower(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(in_channels, width, 3), ConvBlock(width, width, 3))


def by_point(
    features: Mapping[str, Tensor], towers: nn.ModuleDict, predictors: nn.ModuleDict
) -> Tensor:
    """Predictions of a branch for all points (N, A, channels), map after map, each row by row."""
    maps = [predictors[level](tower(features[level])) for level, tower in towers.items()]
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
