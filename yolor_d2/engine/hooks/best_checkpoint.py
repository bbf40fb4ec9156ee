"""Keeping the best weights of a run."""

import logging
from collections.abc import Callable

from .metric import MetricHook

logger = logging.getLogger(__name__)


class BestCheckpoint(MetricHook):
    """Saves the run each time that a metric reaches a new best value.

    Unlike detectron2's BestCheckpointer, it keeps the best value when a run is resumed, and does
    not change the file that names the checkpoint to resume from.

    Args:
        save: saves the state under a name; called on all processes.
        metric, mode: of MetricHook.
        name: of the file, without its suffix.
    """

    key = "TEST.BEST"

    def __init__(
        self,
        *,
        save: Callable[[str], None],
        metric: str,
        mode: str = "max",
        name: str = "model_best",
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        self.save = save
        self.name = name

    def improved(self, previous: float | None) -> None:
        self.save(self.name)
        before = "the first value" if previous is None else f"before {previous:.5g}"
        logger.info("%s is %.5g, %s: saved as %s", self.metric, self.best, before, self.name)

    def not_improved(self, value: float) -> None:
        if self.best is None:
            logger.info("%s is %.5g, not a finite number: not saved", self.metric, value)
            return
        logger.info(
            "%s is %.5g; %s is still from step %d, %.5g",
            self.metric,
            value,
            self.name,
            self.best_iteration + 1,
            self.best,
        )
