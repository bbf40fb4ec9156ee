"""Base class of hooks that follow one metric of the log."""

import logging
import math
from typing import Any

from detectron2.engine import HookBase

from ...errors import ConfigError

logger = logging.getLogger(__name__)

MODES = ("max", "min")


class MetricHook(HookBase):
    """Follows one scalar of the storage and acts on each of its values once.

    A value is new if its iteration is. The state has the iteration and the best value, so that a
    resumed run counts no value twice. All processes need the scalar, so that all take the same
    action.

    Args:
        metric: the scalar's name, such as "bbox/AP" or "validation/total_loss".
        mode: "max" or "min", the direction of better values.
    """

    key = ""  # configuration section of METRIC and MODE, for messages

    def __init__(self, *, metric: str, mode: str = "max") -> None:
        if mode not in MODES:
            raise ConfigError(f"{self.key}.MODE must be max or min, not {mode}")
        self.metric = metric
        self.mode = mode
        self.best: float | None = None
        self.best_iteration = -1
        self.last_iteration = -1  # of the last value
        self._warned = False

    def improved(self, previous: float | None) -> None:
        """Called when the metric has a new best value."""
        raise NotImplementedError

    def not_improved(self, value: float) -> None:
        """Called when the metric has a new value that is not the best."""
        raise NotImplementedError

    def after_step(self) -> None:
        latest = self.trainer.storage.latest()
        if self.metric not in latest:
            self._warn_if_mistyped(list(latest))
            return
        value, iteration = latest[self.metric]
        if iteration <= self.last_iteration:
            return
        self.last_iteration = int(iteration)
        if self._is_better(value):
            previous, self.best, self.best_iteration = self.best, float(value), self.last_iteration
            self.improved(previous)
        else:
            self.not_improved(value)

    def after_train(self) -> None:
        finished = self.trainer.iter >= self.trainer.max_iter
        if finished and self.last_iteration < 0 and not self._warned:
            logger.warning("%s.METRIC %s was never measured", self.key, self.metric)

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_iteration": self.best_iteration,
            "seen": self.last_iteration,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]
        self.best_iteration = state["best_iteration"]
        self.last_iteration = state["seen"]

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        return value > self.best if self.mode == "max" else value < self.best

    def _warn_if_mistyped(self, names: list[str]) -> None:
        """Warn if other metrics of the same group are measured: the name is probably mistyped."""
        group = self.metric.rpartition("/")[0]
        siblings = [name for name in names if group and name.rpartition("/")[0] == group]
        if siblings and not self._warned:
            self._warned = True
            logger.warning(
                "%s.METRIC %s is not measured; measured are %s",
                self.key,
                self.metric,
                ", ".join(sorted(siblings)),
            )
