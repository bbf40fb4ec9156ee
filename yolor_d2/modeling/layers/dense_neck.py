"""The neck of a dense task: a map of twice the resolution."""

import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvBlock
from .gelan import RepNCSPELAN


class DenseNeck(nn.Module):
    """Refines a map, enlarges it by 2, and smooths it, with the same number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.refine = RepNCSPELAN(channels, channels, width=channels, bottlenecks=2)
        self.smooth = nn.Sequential(
            ConvBlock(channels, channels, 3, groups=channels), ConvBlock(channels, channels, 1)
        )

    def enlarge(self, x: Tensor) -> Tensor:
        """The enlarged map before it is smoothed."""
        return F.interpolate(self.refine(x), scale_factor=2.0, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        return self.smooth(self.enlarge(x))
