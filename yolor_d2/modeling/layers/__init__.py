"""Blocks of the network; each that folds at inference has a `fuse()`."""

from .conv import ConvBlock
from .implicit import ImplicitConv1x1

__all__ = ["ConvBlock", "ImplicitConv1x1"]
