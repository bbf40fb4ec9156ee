"""The convolution block of the network."""

import copy

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

NORM_EPS = 1e-3
NORM_MOMENTUM = 0.03


class SiLU(nn.Module):
    """x * sigmoid(x), in place if no gradient is needed: for gradients, PyTorch would copy x."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=not x.requires_grad)


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, SiLU (optional), with "same" padding."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.activation = SiLU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the inference form of the batch norm into the convolution."""
        norm = self.norm
        if isinstance(norm, nn.Identity):
            return
        # detectron2 replaces the norms of a frozen backbone by FrozenBatchNorm2d.
        if not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm | FrozenBatchNorm2d):
            raise TypeError(f"cannot fold {type(norm).__name__} into a convolution")
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        self.conv.weight, self.conv.bias = fuse_conv_bn_weights(
            self.conv.weight, self.conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
        self.norm = nn.Identity()

    @torch.no_grad()
    def chunk(self, chunks: int) -> list["ConvBlock"]:
        """Blocks that compute equal parts of the outputs, of a fused block without groups."""
        conv = self.conv
        parts = [copy.deepcopy(self) for _ in range(chunks)]
        for name in ("weight", "bias"):
            whole = conv.get_parameter(name)
            for part, values in zip(parts, whole.chunk(chunks), strict=True):
                setattr(part.conv, name, nn.Parameter(values.clone(), whole.requires_grad))
                part.conv.out_channels = len(values)
        return parts
