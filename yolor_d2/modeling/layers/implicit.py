"""Implicit knowledge: what a prediction branch knows whatever the image shows."""

import torch
from torch import Tensor, nn


class ImplicitConv1x1(nn.Conv2d):
    """y = m * (W (x + a) + b): a learnt shift of what goes in, a learnt gain on what comes out.

    With implicit=False it is a plain 1 x 1 convolution, of the same parameter names.
    """

    def __init__(self, in_channels: int, out_channels: int, *, implicit: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)
        self.implicit_add: nn.Parameter | None = None
        self.implicit_mul: nn.Parameter | None = None
        if implicit:
            add = torch.empty(1, in_channels, 1, 1)
            mul = torch.empty(1, out_channels, 1, 1)
            self.implicit_add = nn.Parameter(nn.init.normal_(add, mean=0.0, std=0.02))
            self.implicit_mul = nn.Parameter(nn.init.normal_(mul, mean=1.0, std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        if self.implicit_add is None or self.implicit_mul is None:
            return super().forward(x)
        return super().forward(x + self.implicit_add) * self.implicit_mul

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold both vectors into weight and bias."""
        if self.implicit_add is None or self.implicit_mul is None or self.bias is None:
            return
        gain = self.implicit_mul.view(-1)
        shift = self.weight.flatten(1) @ self.implicit_add.view(-1)
        self.bias.copy_(gain * (self.bias + shift))
        self.weight.mul_(gain.view(-1, 1, 1, 1))
        self.implicit_add = self.implicit_mul = None
