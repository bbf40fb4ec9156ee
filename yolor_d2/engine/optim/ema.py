"""Exponential moving average of the weights (EMA)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ...errors import CheckpointError


class ModelEMA:
    """Moving averages of a model's state dict, including the statistics of batch norms.

    After n updates the decay is decay * (1 - exp(-n / tau)), so that the averages change quickly
    at first. They are at least in single precision. Integers are copied.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.9999, tau: float = 2000.0) -> None:
        """
        Args:
            model: not wrapped.
            decay: weight of the old average after many updates.
            tau: number of updates until it is about two thirds of that.
        """
        self.model = model
        self.decay = decay
        self.tau = tau
        self.updates = 0
        self.averages: dict[str, Tensor] = {
            name: value.to(_average_dtype(value), copy=True)
            for name, value in self.model.state_dict().items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages after a step of the optimizer."""
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / self.tau))
        averages, values = [], []
        state = self.model.state_dict()
        for average, value in zip(self.averages.values(), state.values(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value.to(average.dtype))
            else:
                average.copy_(value)
        get_ema_multi_avg_fn(decay)(averages, values, None)  # one call for all tensors

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the model has the averages; its own state is restored afterwards."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        try:
            self.model.load_state_dict(self.averages)
            yield
        finally:
            self.model.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """Plain data: {"model": {name: average}, "updates": number}."""
        return {"model": dict(self.averages), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load saved averages, which must have the same names and shapes."""
        different = {name for name, _ in _shapes(state["model"]) ^ _shapes(self.averages)}
        if different:
            raise CheckpointError(
                f"the saved EMA does not fit the model: {len(different)} names or shapes differ, "
                f"such as {', '.join(sorted(different)[:4])}"
            )
        for name, average in self.averages.items():
            average.copy_(state["model"][name])
        self.updates = state["updates"]


def _average_dtype(value: Tensor) -> torch.dtype:
    if not value.is_floating_point():
        return value.dtype
    return torch.promote_types(value.dtype, torch.float32)


def _shapes(state: Mapping[str, Tensor]) -> set[tuple[str, torch.Size]]:
    return {(name, value.shape) for name, value in state.items()}
