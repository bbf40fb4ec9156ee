"""Blocks of the network. Blocks that can be folded for inference have a `fuse()`."""

from .conv import ConvBlock
from .dense_neck import DenseNeck
from .elan import SPPCSPC, Elan, Transition
from .gelan import PSA, SPPELAN, AConv, ADown, Elan3x3, RepConv, RepNCSP, RepNCSPELAN
from .implicit import ImplicitConv1x1, Tower
from .modes import FrozenStatistics, is_trainable, training_flag

__all__ = [
    "PSA",
    "SPPCSPC",
    "SPPELAN",
    "AConv",
    "ADown",
    "ConvBlock",
    "DenseNeck",
    "Elan",
    "Elan3x3",
    "FrozenStatistics",
    "ImplicitConv1x1",
    "RepConv",
    "RepNCSP",
    "RepNCSPELAN",
    "Tower",
    "Transition",
    "is_trainable",
    "training_flag",
]
