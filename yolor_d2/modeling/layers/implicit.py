"""Implicit knowledge: learned vectors that do not depend on the image."""

from typing import Any

import torch
from torch import Tensor, nn


class ImplicitConv1x1(nn.Conv2d):
    """y = m * (W (x + a) + b), with a learned vector a added to the input and a learned gain m.

    With implicit=False it is a plain 1 x 1 convolution with the same parameter names. Weights with
    and without the two vectors can be loaded into either form.
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
        self.register_load_state_dict_pre_hook(_adapt_vectors)

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


def _adapt_vectors(
    layer: ImplicitConv1x1, state: dict[str, Any], prefix: str, *_others: Any
) -> None:
    """Load weights with implicit vectors into a layer without them, and the other way around.

    Neutral vectors are filled in where the weights have none at all, and vectors are folded where
    the layer has none; the function stays the same. Without weight and bias nothing is filled in,
    and the vectors are reported as missing too.
    """
    names = ("weight", "bias", "implicit_add", "implicit_mul")
    present = {name for name in names if f"{prefix}{name}" in state}
    weight, bias, add, mul = (f"{prefix}{name}" for name in names)
    if layer.implicit_add is not None and layer.implicit_mul is not None:
        if present == {"weight", "bias"}:
            state[add] = torch.zeros_like(layer.implicit_add)
            state[mul] = torch.ones_like(layer.implicit_mul)
    elif present == set(names):
        state[weight], state[bias] = fold(
            state[weight], state[bias], state.pop(add), state.pop(mul)
        )


def fold(weight: Tensor, bias: Tensor, add: Tensor, mul: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the plain convolution that computes the same function."""
    gain = mul.view(-1)
    shift = weight.flatten(1) @ add.view(-1)
    return weight * gain.view(-1, 1, 1, 1), gain * (bias + shift)
