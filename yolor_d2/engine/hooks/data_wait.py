"""A warning when training waits for data."""

import logging

from detectron2.engine import HookBase

logger = logging.getLogger(__name__)

WARM_UP = 10  # first steps, during which workers start


class DataWait(HookBase):
    """Warns when waiting for data takes too large a share of the time, with remedies.

    Args:
        limit: largest share of the steps' time without a warning.
        window: number of steps over which the share is measured.
        repeat: smallest number of steps between two warnings.
    """

    def __init__(self, *, limit: float, window: int = 100, repeat: int = 1000) -> None:
        self.limit = limit
        self.window = window
        self.repeat = repeat
        self._steps = 0
        self._waited = self._total = 0.0  # milliseconds of the window
        self._quiet_until = 0

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if iteration - self.trainer.start_iter < WARM_UP:
            return
        latest = self.trainer.storage.latest()
        self._steps += 1
        self._waited += latest["time/data"][0]
        self._total += latest["time/step"][0]
        if self._steps < self.window:
            return
        share = self._waited / self._total
        self._steps, self._waited, self._total = 0, 0.0, 0.0
        if share > self.limit and iteration >= self._quiet_until:
            self._quiet_until = iteration + self.repeat
            logger.warning(
                "%.0f %% of the time of the last %d steps was spent waiting for data "
                "(LOG.MAX_DATA_WAIT is %.0f %%): raise DATALOADER.NUM_WORKERS if CPU cores are "
                "idle, or DATALOADER.IMAGE_CACHE_MB if the images fit into memory",
                100 * share,
                self.window,
                100 * self.limit,
            )
