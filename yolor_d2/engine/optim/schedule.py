"""Learning rate and momentum as functions of the step, without state."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from torch.optim import Optimizer

from ...checks import check_choice

MULTI_STEP, COSINE = "WarmupMultiStepLR", "WarmupCosineLR"  # detectron2's own


def factor(name: str, iteration: int, *, total: int, final: float) -> float:
    """Factor on the learning rate at a step, without warm-up.

    Args:
        name: of a curve from 1 to `final`: "flat_cosine" (1 for half the run, then half a cosine),
            "cosine", "linear", "poly" (to the power 0.9); or "fixed".
        iteration: number of steps before this one.
        total: number of steps of the run.
        final: value at the end.
    """
    return 1 - (1 - final) * _FALLS[name](min(iteration, total), total)


def _cosine(iteration: int, total: int) -> float:
    return (1 - math.cos(math.pi * iteration / total)) / 2


def _flat_cosine(iteration: int, total: int) -> float:
    half = max(total // 2, 1)
    return _cosine(min(max(iteration - half, 0), half), half)


def _linear(iteration: int, total: int) -> float:
    return iteration / total


def _poly(iteration: int, total: int) -> float:
    return 1 - (1 - iteration / total) ** 0.9


def _fixed(iteration: int, total: int) -> float:
    return 0.0


# Completed fraction of the decrease before a step.
_FALLS: dict[str, Callable[[int, int], float]] = {
    "flat_cosine": _flat_cosine,
    "cosine": _cosine,
    "linear": _linear,
    "poly": _poly,
    "fixed": _fixed,
}


def multi_step(iteration: int, *, steps: Sequence[int], gamma: float) -> float:
    """Factor that is multiplied by gamma at each of the steps."""
    return gamma ** bisect_right(steps, iteration)


class Schedule:
    """Sets learning rate and momentum of an optimizer's groups at a step.

    Groups store their initial values as "initial_lr" and "initial_momentum", so that a loaded
    optimizer continues with the same schedule.
    """

    def __init__(
        self,
        name: str,
        *,
        total: int,
        final: float = 0.01,
        steps: Sequence[int] = (),
        gamma: float = 0.1,
        warmup_iters: int = 0,
        warmup_factor: float = 0.001,
        warmup_factor_bias: float | None = None,
        warmup_method: str = "linear",
        warmup_momentum: float | None = None,
    ) -> None:
        """
        Args:
            name: of a curve, those of `factor` or detectron2's "WarmupMultiStepLR" and
                "WarmupCosineLR" (which ends at 0).
            total: number of steps of the run.
            final: factor at the end of our curves.
            steps, gamma: of WarmupMultiStepLR.
            warmup_iters: number of warm-up steps.
            warmup_factor: factor on the first value of the curve at the first step.
            warmup_factor_bias: the same for groups with "is_bias"; None: `warmup_factor`.
            warmup_method: "linear" interpolates, "constant" jumps at the end.
            warmup_momentum: momentum, or first beta, at the first step; None: no warm-up of it.
        """
        check_choice("SOLVER.LR_SCHEDULER_NAME", name, (*_FALLS, MULTI_STEP, COSINE))
        check_choice("SOLVER.WARMUP_METHOD", warmup_method, ("linear", "constant"))
        self.curve: Callable[[int], float] = partial(factor, name, total=total, final=final)
        if name == MULTI_STEP:
            self.curve = partial(multi_step, steps=steps, gamma=gamma)
        elif name == COSINE:
            self.curve = partial(factor, "cosine", total=total, final=0.0)
        self.warmup_iters = min(warmup_iters, total)
        self.warmup_factor = warmup_factor
        self.warmup_factor_bias = (
            warmup_factor if warmup_factor_bias is None else warmup_factor_bias
        )
        self.warmup_method = warmup_method
        self.warmup_momentum = warmup_momentum

    def apply(self, optimizer: Optimizer, iteration: int) -> None:
        """Set the learning rate and the momentum of each group for a step."""
        for group in optimizer.param_groups:
            lr = group.setdefault("initial_lr", group["lr"])
            group["lr"] = lr * self.factor(iteration, is_bias=group.get("is_bias", False))
            if self.warmup_momentum is not None:
                momentum = group.setdefault("initial_momentum", _momentum(group))
                _set_momentum(group, self._warm(iteration, self.warmup_momentum, momentum))

    def step(self) -> None:
        """Do nothing: `apply` sets the values of each step. For detectron2's hook LRScheduler."""

    def factor(self, iteration: int, *, is_bias: bool = False) -> float:
        """Factor on the learning rate at a step, with warm-up."""
        if iteration >= self.warmup_iters:
            return self.curve(iteration)
        start = self.warmup_factor_bias if is_bias else self.warmup_factor
        return self._warm(iteration, start * self.curve(0), self.curve(self.warmup_iters))

    def _warm(self, iteration: int, start: float, end: float) -> float:
        """The value at a step between start, at the first step, and end, after the warm-up."""
        if iteration >= self.warmup_iters:
            return end
        if self.warmup_method == "constant":
            return start
        return start + (end - start) * iteration / self.warmup_iters


def build_schedule(cfg: CfgNode) -> Schedule:
    """The schedule of SOLVER."""
    solver = cfg.SOLVER
    name = solver.LR_SCHEDULER_NAME
    if name == COSINE and solver.LR_CURVE:
        check_choice("SOLVER.LR_CURVE", solver.LR_CURVE, tuple(_FALLS))
        name = solver.LR_CURVE
    bias, momentum = solver.WARMUP_FACTOR_BIAS, solver.WARMUP_MOMENTUM
    return Schedule(
        name,
        total=solver.MAX_ITER,
        final=solver.LR_FINAL,
        steps=solver.STEPS,
        gamma=solver.GAMMA,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_factor_bias=bias if bias >= 0 else None,
        warmup_method=solver.WARMUP_METHOD,
        warmup_momentum=momentum if momentum >= 0 else None,
    )


def _momentum(group: dict[str, Any]) -> float:
    return group["betas"][0] if "betas" in group else group["momentum"]


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, group["betas"][1])
    else:
        group["momentum"] = momentum
