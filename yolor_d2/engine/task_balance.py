"""A fixed share of the shared trunk's gradient for each task, without a second backward pass."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError

DECAY = 0.9  # of the moving averages of norms, per step


class TaskBalance:
    """Scales each task's gradient where it enters the shared trunk: at the feature maps.

    A task's norm is that of its gradient at all maps that its head reads. With the shares S and
    moving averages N of the norms of earlier steps, a task's gradient is multiplied by

        S[task] / sum(S) * sum(N) / N[task]

    so that norms have the ratios of the shares, and their sum stays that of the loss weights. The
    gradients of the heads' own weights do not change.

    Args:
        model: with a head for each task, as `<task>_head`.
        shares: pairs of a task and its share; each task of the model has one.
        key: of the shares, for messages.

    Attributes:
        norms: moving averages, by task; empty before the first step.
    """

    def __init__(self, model: nn.Module, shares: Sequence[Sequence[Any]], *, key: str) -> None:
        heads = {name.removesuffix("_head"): head for name, head in _heads(model)}
        self.shares = _checked(shares, list(heads), key)
        self.norms: dict[str, float] = {}
        self._squares: dict[str, Tensor] = {}
        self._measures = False
        for task in self.shares:
            heads[task].register_forward_pre_hook(partial(self._scale_maps, task))

    def factors(self) -> dict[str, float]:
        """The factor on each task's gradient in the next step; 1 before all norms are known."""
        if not self.shares.keys() <= self.norms.keys():
            return dict.fromkeys(self.shares, 1.0)
        total = sum(self.norms.values()) / sum(self.shares.values())
        return {task: total * share / self.norms[task] for task, share in self.shares.items()}

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Context of the backward passes whose gradients are measured."""
        self._measures = True
        try:
            yield
        finally:
            self._measures = False

    def take_norms(self, device: torch.device, *, scale: float) -> dict[str, Tensor]:
        """The norms of the gradients since the last call, before the factors.

        Args:
            device: of the norms.
            scale: of the losses during the backward passes.
        """
        zero = torch.zeros((), device=device)
        norms = {task: self._squares.get(task, zero).sqrt() / scale for task in self.shares}
        self._squares = {}
        return norms

    def update(self, norms: Mapping[str, float]) -> None:
        """Add the norms of a step to the averages; a task without a gradient keeps its average."""
        for task, norm in norms.items():
            if norm > 0 and math.isfinite(norm):
                earlier = self.norms.get(task, norm)
                self.norms[task] = DECAY * earlier + (1 - DECAY) * norm

    def _scale_maps(self, task: str, head: nn.Module, arguments: tuple[Any, ...]) -> Any:
        """Hook: the head reads views of the maps, whose gradients are measured and scaled."""
        if not (head.training and torch.is_grad_enabled()):
            return None
        features, *others = arguments
        return {name: self._watched(task, each) for name, each in features.items()}, *others

    def _watched(self, task: str, features: Tensor) -> Tensor:
        if not features.requires_grad:
            return features
        view = features.view_as(features)
        view.register_hook(partial(self._scale, task))
        return view

    def _scale(self, task: str, gradient: Tensor) -> Tensor:
        if self._measures:
            square = gradient.detach().float().square().sum()
            self._squares[task] = self._squares.get(task, 0.0) + square
        return gradient * self.factors()[task]


def _heads(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, each) for name, each in model.named_children() if name.endswith("_head")]


def _checked(shares: Sequence[Sequence[Any]], tasks: Sequence[str], key: str) -> dict[str, float]:
    """The shares by task."""
    table: dict[str, float] = {}
    for item in shares:
        is_pair = isinstance(item, list | tuple) and len(item) == 2
        if not (is_pair and isinstance(item[1], int | float) and 0 < item[1] < math.inf):
            raise ConfigError(f"{key} has {item!r}; it must have pairs of a task and its share")
        table[item[0]] = float(item[1])
    if sorted(table) != sorted(tasks) or len(table) < len(shares):
        raise ConfigError(
            f"{key} has shares of {', '.join(map(str, table))}; it must have one of each task of "
            f"the network: {', '.join(tasks)}"
        )
    return table
