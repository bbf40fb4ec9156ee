"""Prediction branches: per map, a tower of blocks and a predictor (last convolution)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...checks import check_choice
from ..layers import ConvBlock, ImplicitConv1x1, Tower

# Where a branch adds its implicit vector: before the predictor, or before the tower, as published
# in yolov7-u6. The other vector always multiplies the output.
PLACEMENTS = ("predictor", "tower")


def make_tower(
    in_channels: int,
    width: int,
    *,
    groups: int = 1,
    depthwise: bool = False,
    implicit_add: bool = False,
) -> Tower:
    """Two 3 x 3 convolutions.

    Args:
        in_channels: channels of the feature map.
        width: channels of the output.
        groups: of the second convolution.
        depthwise: each convolution is a depthwise one, followed by a 1 x 1 convolution.
        implicit_add: whether a learned vector is added to the feature map.
    """
    if depthwise:
        blocks = [
            ConvBlock(in_channels, in_channels, 3, groups=in_channels),
            ConvBlock(in_channels, width, 1),
            ConvBlock(width, width, 3, groups=width),
            ConvBlock(width, width, 1),
        ]
    else:
        blocks = [ConvBlock(in_channels, width, 3), ConvBlock(width, width, 3, groups=groups)]
    return Tower(*blocks, in_channels=in_channels, implicit_add=implicit_add)


def make_predictor(
    in_channels: int, out_channels: int, *, groups: int = 1, implicit: bool, placement: str
) -> ImplicitConv1x1:
    """The last convolution of a branch, with the implicit vectors that are placed there."""
    return ImplicitConv1x1(
        in_channels,
        out_channels,
        groups=groups,
        implicit=implicit,
        implicit_add=placement == "predictor",
    )


def adds_before_tower(*, implicit: bool, placement: str) -> bool:
    """Whether the towers of a head have implicit vectors."""
    check_choice("MODEL.YOLOR.IMPLICIT_PLACEMENT", placement, PLACEMENTS)
    return implicit and placement == "tower"


def by_point(
    features: Mapping[str, Tensor], towers: nn.ModuleDict, predictors: nn.ModuleDict
) -> Tensor:
    """Predictions of a branch for all points (N, A, channels), map after map, each row by row."""
    maps = [predictors[level](tower(features[level])) for level, tower in towers.items()]
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
