"""Running mean of the weights (EMA)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ModelEMA:
    """Running means of a model's state dict, including the statistics of batch norms.

    After n updates the decay is decay * (1 - exp(-n / tau)), so that the means change quickly at
    first. They are at least in single precision. Integers are copied.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.9999, tau: float = 2000.0) -> None:
        """
        Args:
            model: not wrapped.
            decay: weight of the old mean after many updates.
            tau: number of updates until it is about two thirds of that.
        """
        self.model = model
        self.decay = decay
        self.tau = tau
        self.updates = 0
        self.means: dict[str, Tensor] = {
            name: value.to(_mean_type(value), copy=True)
            for name, value in self.model.state_dict().items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Update the means after a step of the optimizer."""
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / self.tau))
        means, values = [], []
        for mean, value in zip(self.means.values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                means.append(mean)
                values.append(value.to(mean.dtype))
            else:
                mean.copy_(value)
        get_ema_multi_avg_fn(decay)(means, values, None)  # one call for all tensors

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the model has the means; its own state is restored afterwards."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        try:
            self.model.load_state_dict(self.means)
            yield
        finally:
            self.model.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """Plain data: {"model": {name: mean}, "updates": number}."""
        return {"model": dict(self.means), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load saved means, which must have the same names and shapes."""
        different = {name for name, _ in _shapes(state["model"]) ^ _shapes(self.means)}
        if different:
            raise ValueError(
                f"the saved EMA does not fit the model: {len(different)} names or shapes differ, "
                f"such as {', '.join(sorted(different)[:4])}"
            )
        for name, mean in self.means.items():
            mean.copy_(state["model"][name])
        self.updates = state["updates"]


def _mean_type(value: Tensor) -> torch.dtype:
    if not value.is_floating_point():
        return value.dtype
    return torch.promote_types(value.dtype, torch.float32)


def _shapes(state: Mapping[str, Tensor]) -> set[tuple[str, torch.Size]]:
    return {(name, value.shape) for name, value in state.items()}
