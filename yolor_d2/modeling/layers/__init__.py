"""Blocks of the network. Blocks that can be folded for inference have a `fuse()`."""

from .conv import ConvBlock
from .elan import SPPCSPC, Elan, Transition
from .implicit import ImplicitConv1x1, Tower
from .modes import frozen_statistics, is_trainable, training_flag

__all__ = [
    "SPPCSPC",
    "ConvBlock",
    "Elan",
    "ImplicitConv1x1",
    "Tower",
    "Transition",
    "frozen_statistics",
    "is_trainable",
    "training_flag",
]
