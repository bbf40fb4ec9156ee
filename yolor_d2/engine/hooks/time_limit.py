"""A limit of the training time."""

import logging
from time import monotonic

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class TimeLimit(HookBase):
    """Makes a step the last one when the time is over, so that it is saved and evaluated.

    Logs "seconds_left". It sets `trainer.max_iter`, so it runs before hooks that read it. The time
    of earlier parts of a resumed run counts.

    Args:
        seconds: training time, with evaluations in between but without the last one.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._before = 0.0  # seconds of earlier parts of the run
        self._started = monotonic()

    def before_train(self) -> None:
        self._started = monotonic()
        if self._left() <= 0:
            self.trainer.max_iter = self.trainer.start_iter

    def after_step(self) -> None:
        left = comm.all_gather(self._left())[0]
        self.trainer.storage.put_scalar("seconds_left", max(left, 0.0), smoothing_hint=False)
        if left <= 0:
            self.trainer.max_iter = self.trainer.iter + 1
            minutes, steps = self.seconds / 60, self.trainer.max_iter
            logger.info("%.4g minutes are over after %d steps", minutes, steps)

    def _left(self) -> float:
        return self.seconds - self._spent()

    def _spent(self) -> float:
        return self._before + monotonic() - self._started

    def state_dict(self) -> dict[str, float]:
        return {"spent": self._spent()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._before = state["spent"]
