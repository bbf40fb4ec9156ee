"""Early stopping."""

from typing import Any

from ...errors import ConfigError
from .metric import MetricHook


class EarlyStop(MetricHook):
    """Stops training when a metric has not improved for a number of evaluations.

    Args:
        metric, mode: of MetricHook.
        patience: number of evaluations in a row without a new best value.
    """

    key = "TEST.EARLY_STOP"

    def __init__(self, *, metric: str, mode: str = "max", patience: int = 5) -> None:
        super().__init__(metric=metric, mode=mode)
        if patience < 1:
            raise ConfigError(f"{self.key}.PATIENCE is {patience}; it must be at least 1")
        self.patience = patience
        self.waited = 0  # evaluations since the best one

    def improved(self, previous: float | None) -> None:
        self.waited = 0

    def not_improved(self, value: float) -> None:
        self.waited += 1
        if self.waited >= self.patience:
            best = "never been a number"
            if self.best is not None:
                best = f"been best, {self.best:.5g}, at step {self.best_iteration + 1}"
            self.trainer.request_stop(
                f"{self.metric} has {best}; not improved for {self.waited} evaluations"
            )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.waited = state["waited"]
