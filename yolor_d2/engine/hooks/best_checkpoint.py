"""The best weights so far stay, whatever comes after them."""

import logging
from collections.abc import Callable

from .metric import MetricHook

logger = logging.getLogger(__name__)


class BestCheckpoint(MetricHook):
    """Saves the run each time that a metric is better than ever.

    Other than detectron2's BestCheckpointer it remembers over resumes what the best value was, and
    leaves the file alone that says where to go on.

    Args:
        save: saves the state under a name; every process calls it.
        metric, mode: of MetricHook.
        name: of the file, without its ending.
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
        before = "the first" if previous is None else f"before it was {previous:.5g}"
        logger.info("%s is %.5g, %s: saved as %s", self.metric, self.best, before, self.name)

    def not_improved(self, value: float) -> None:
        if self.best is None:
            logger.info("%s is %.5g, which cannot be the best", self.metric, value)
            return
        logger.info(
            "%s is %.5g; %s stays that of step %d, %.5g",
            self.metric,
            value,
            self.name,
            self.best_iteration + 1,
            self.best,
        )
