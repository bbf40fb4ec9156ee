"""Implicit knowledge: learned vectors that do not depend on the image."""

from typing import Any

import torch
from torch import Tensor, nn

VECTORS = ("implicit_add", "implicit_mul")


class ImplicitConv1x1(nn.Conv2d):
    """y = m * (W (x + a) + b), with a learned vector a added to the input and a learned gain m.

    With implicit=False it is a plain 1 x 1 convolution with the same parameter names. Weights with
    both vectors, or without any, can be loaded into any form; those with one before a tower cannot.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        groups: int = 1,
        implicit: bool = True,
        implicit_add: bool = True,
    ) -> None:
        """
        Args:
            in_channels, out_channels, groups: as in nn.Conv2d.
            implicit: whether the layer has vectors.
            implicit_add: whether one of them is a; if not, a is added elsewhere, as in `Tower`.
        """
        super().__init__(in_channels, out_channels, kernel_size=1, groups=groups)
        self.implicit_add: nn.Parameter | None = None
        self.implicit_mul: nn.Parameter | None = None
        if implicit and implicit_add:
            self.implicit_add = additive_vector(in_channels)
        if implicit:
            gain = torch.empty(1, out_channels, 1, 1)
            self.implicit_mul = nn.Parameter(nn.init.normal_(gain, mean=1.0, std=0.02))
        self.register_load_state_dict_pre_hook(_adapt_vectors)

    def forward(self, x: Tensor) -> Tensor:
        if self.implicit_add is not None:
            x = x + self.implicit_add
        y = super().forward(x)
        return y if self.implicit_mul is None else y * self.implicit_mul

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the vectors into weight and bias."""
        assert self.bias is not None
        weight, bias = fold(
            self.weight, self.bias, self.implicit_add, self.implicit_mul, groups=self.groups
        )
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.implicit_add = self.implicit_mul = None


class Tower(nn.Sequential):
    """Blocks of a prediction branch, with an optional learned vector added to their input.

    The vector cannot be folded into the first block: a 3 x 3 convolution pads with zeros, not with
    the vector. So it stays one addition after training too.
    """

    def __init__(self, *blocks: nn.Module, in_channels: int, implicit_add: bool = False) -> None:
        super().__init__(*blocks)
        self.implicit_add = additive_vector(in_channels) if implicit_add else None
        self.register_load_state_dict_pre_hook(_fill_tower_vector)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.implicit_add is None else x + self.implicit_add)


def additive_vector(channels: int) -> nn.Parameter:
    """A vector (1, channels, 1, 1) near 0, to be added to a feature map."""
    return nn.Parameter(nn.init.normal_(torch.empty(1, channels, 1, 1), mean=0.0, std=0.02))


def _adapt_vectors(
    layer: ImplicitConv1x1, state: dict[str, Any], prefix: str, *_others: Any
) -> None:
    """Load weights with implicit vectors into a layer without them, and the other way around.

    Neutral vectors are filled in where the weights have none at all, and vectors are folded that
    the layer does not have; the function stays the same. Without weight and bias nothing is filled
    in, and the vectors are reported as missing too.
    """
    weight, bias = f"{prefix}weight", f"{prefix}bias"
    if weight not in state or bias not in state:
        return
    own = {name: getattr(layer, name) for name in VECTORS}
    given = {name for name in VECTORS if f"{prefix}{name}" in state}
    if not given:
        for name, vector in own.items():
            if vector is not None:
                state[f"{prefix}{name}"] = torch.full_like(vector, float(name == "implicit_mul"))
    elif given == set(VECTORS):
        surplus = {name: state.pop(f"{prefix}{name}") for name in VECTORS if own[name] is None}
        state[weight], state[bias] = fold(
            state[weight],
            state[bias],
            surplus.get("implicit_add"),
            surplus.get("implicit_mul"),
            groups=layer.groups,
        )


def _fill_tower_vector(tower: Tower, state: dict[str, Any], prefix: str, *_others: Any) -> None:
    """Load weights without the vector: zeros are the same function."""
    has_weights = any(name.startswith(prefix) for name in state)
    if tower.implicit_add is not None and has_weights:
        state.setdefault(f"{prefix}implicit_add", torch.zeros_like(tower.implicit_add))


def fold(
    weight: Tensor, bias: Tensor, add: Tensor | None, mul: Tensor | None, *, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the plain 1 x 1 convolution that computes the same function."""
    if add is not None:
        matrices = weight.reshape(groups, -1, weight.shape[1])  # (groups, out, in) of each group
        bias = bias + (matrices @ add.view(groups, -1, 1)).flatten()
    if mul is not None:
        weight, bias = weight * mul.view(-1, 1, 1, 1), mul.view(-1) * bias
    return weight, bias
