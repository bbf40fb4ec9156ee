"""What hooks share that follow one metric of the log."""

import logging
import math
from typing import Any

from detectron2.engine import HookBase

logger = logging.getLogger(__name__)

MODES = ("max", "min")


class MetricHook(HookBase):
    """Follows one scalar of the storage and acts on each of its values once.

    A value counts as new by its iteration, which is part of the state: a run that goes on later
    neither forgets the best value nor counts one twice. Every process needs the scalar, so that all
    draw the same conclusions.

    Args:
        metric: the scalar's name, such as "bbox/AP" or "validation/total_loss".
        mode: "max" or "min", which values are better.
    """

    key = ""  # of the configuration: that of the metric and the mode, for messages

    def __init__(self, *, metric: str, mode: str = "max") -> None:
        if mode not in MODES:
            raise ValueError(f"{self.key}.MODE must be max or min, not {mode}")
        self.metric = metric
        self.mode = mode
        self.best: float | None = None
        self.best_iteration = -1
        self.seen = -1  # iteration of the last value
        self._warned = False

    def improved(self, previous: float | None) -> None:
        """The metric has a new best value."""
        raise NotImplementedError

    def not_improved(self, value: float) -> None:
        """The metric has a new value, which is not the best."""
        raise NotImplementedError

    def after_step(self) -> None:
        latest = self.trainer.storage.latest()
        if self.metric not in latest:
            self._warn_of_siblings(list(latest))
            return
        value, iteration = latest[self.metric]
        if iteration <= self.seen:
            return
        self.seen = int(iteration)
        if self._is_better(value):
            previous, self.best, self.best_iteration = self.best, float(value), self.seen
            self.improved(previous)
        else:
            self.not_improved(value)

    def after_train(self) -> None:
        finished = self.trainer.iter >= self.trainer.max_iter
        if finished and self.seen < 0 and not self._warned:
            logger.warning("%s.METRIC %s has never been measured", self.key, self.metric)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_iteration": self.best_iteration, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]
        self.best_iteration = state["best_iteration"]
        self.seen = state["seen"]

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        return value > self.best if self.mode == "max" else value < self.best

    def _warn_of_siblings(self, names: list[str]) -> None:
        """A metric whose group has been measured without it is a slip of the pen."""
        group = self.metric.rpartition("/")[0]
        siblings = [name for name in names if group and name.rpartition("/")[0] == group]
        if siblings and not self._warned:
            self._warned = True
            logger.warning(
                "%s.METRIC %s is not measured; there is %s",
                self.key,
                self.metric,
                ", ".join(sorted(siblings)),
            )
