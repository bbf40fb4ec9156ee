"""Implicit knowledge: what a prediction branch knows whatever the image shows."""

from typing import Any

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
        weight, bias = fold(self.weight, self.bias, self.implicit_add, self.implicit_mul)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.implicit_add = self.implicit_mul = None

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """Take weights with vectors and without, whichever this one has, for the same function."""
        add, mul = f"{prefix}implicit_add", f"{prefix}implicit_mul"
        if self.implicit_add is not None and self.implicit_mul is not None:
            state.setdefault(add, torch.zeros_like(self.implicit_add))
            state.setdefault(mul, torch.ones_like(self.implicit_mul))
        elif {add, mul} <= state.keys():
            weight, bias = state[f"{prefix}weight"], state[f"{prefix}bias"]
            folded = fold(weight, bias, state.pop(add), state.pop(mul))
            state[f"{prefix}weight"], state[f"{prefix}bias"] = folded
        super()._load_from_state_dict(state, prefix, *others)


def fold(weight: Tensor, bias: Tensor, add: Tensor, mul: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the plain convolution that does what all four together do."""
    gain = mul.view(-1)
    shift = weight.flatten(1) @ add.view(-1)
    return weight * gain.view(-1, 1, 1, 1), gain * (bias + shift)
