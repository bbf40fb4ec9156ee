"""Evaluation between steps: hooks that read the weights after they have been saved."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils.events import EventWriter
from tabulate import tabulate

from ...evaluation.report import headline
from ..evaluation import Results

logger = logging.getLogger(__name__)

# Metrics whose best values are logged; all are better if higher.
MAIN_METRICS = ("AP", "AP50", "mIoU", "PQ", "Bleu_4", "CIDEr")


class EvaluationHooks(HookBase):
    """Hooks that run, in order, after the state has been saved.

    If a run is killed while they run, they are repeated when it is resumed: no evaluation is lost
    or counted twice.

    Args:
        hooks: work in `after_step`.
        periods: of the hooks, in steps; 0: after the last step only.
    """

    def __init__(self, hooks: Sequence[HookBase], *, periods: Sequence[int]) -> None:
        self.hooks = list(hooks)
        self.periods = list(periods)
        self.done = 0  # finished steps at the last evaluation
        self.has_repeated = False  # whether an evaluation was repeated before the first step

    def is_due(self, finished: int) -> bool:
        """Whether a hook has work to do after a number of finished steps."""
        is_last = finished == self.trainer.max_iter
        return bool(self.periods) and (
            is_last or any(period and finished % period == 0 for period in self.periods)
        )

    def before_train(self) -> None:
        for hook in self.hooks:
            hook.trainer = self.trainer
            hook.before_train()
        start = self.trainer.start_iter
        if start > self.done and self.is_due(start):
            self._repeat_last_step(start)

    def _repeat_last_step(self, start: int) -> None:
        """Run the hooks for a step that was saved, but not evaluated when the run was killed."""
        trainer = self.trainer
        trainer.iter = trainer.storage.iter = start - 1
        self.after_step()
        self.has_repeated = True
        trainer.iter = trainer.storage.iter = start

    def after_step(self) -> None:
        for hook in self.hooks:
            hook.after_step()
        self.done = self.trainer.iter + 1

    def after_train(self) -> None:
        for hook in self.hooks:
            hook.after_train()

    def state_dict(self) -> dict[str, Any]:
        states = {type(hook).__name__: hook.state_dict() for hook in self.hooks}
        return {
            "done": self.done,
            "hooks": {name: state for name, state in states.items() if state},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        for hook in self.hooks:
            if type(hook).__name__ in state["hooks"]:
                hook.load_state_dict(state["hooks"][type(hook).__name__])


class Evaluation(HookBase):
    """Evaluates the weights; logs the metrics, and a table of the main ones with the best so far.

    Args:
        evaluate: returns nested results, the same on all processes.
        period: in steps; the last step is evaluated as well. 0: the last step only.

    Attributes:
        best: the best value of each main metric and its number of finished steps.
    """

    def __init__(self, evaluate: Callable[[], Results], *, period: int) -> None:
        self.evaluate = evaluate
        self.period = period
        self.best: dict[str, tuple[float, int]] = {}

    def after_step(self) -> None:
        finished = self.trainer.iter + 1
        is_last = finished == self.trainer.max_iter
        if not is_last and (not self.period or finished % self.period):
            return
        metrics = flatten_results_dict(headline(self.evaluate()))
        self.trainer.storage.put_scalars(**metrics, smoothing_hint=False)
        main = {name: v for name, v in metrics.items() if name.rpartition("/")[2] in MAIN_METRICS}
        for name, value in main.items():
            if math.isfinite(value) and (name not in self.best or value > self.best[name][0]):
                self.best[name] = float(value), finished
        if main:
            logger.info("after %d steps:\n%s", finished, self._table(main))

    def _table(self, metrics: Mapping[str, float]) -> str:
        rows = []
        for name, value in metrics.items():
            best, step = self.best.get(name, (math.nan, "-"))
            rows.append([name, *(_number(each) for each in (value, best)), step])
        headers = ["metric", "now", "best", "step of best"]
        alignment = ("left", "right", "right", "right")
        return tabulate(
            rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=alignment
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best} if self.best else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = dict(state["best"])


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


class SaveRegularly(HookBase):
    """Saves the run periodically, and before each evaluation.

    Args:
        save: saves the state of the run.
        period: in steps.
        evaluation_hooks: run after this hook.
    """

    def __init__(
        self, save: Callable[[], None], *, period: int, evaluation_hooks: EvaluationHooks
    ) -> None:
        self.save = save
        self.period = period
        self.evaluation_hooks = evaluation_hooks

    def after_step(self) -> None:
        finished = self.trainer.iter + 1
        is_last = finished == self.trainer.max_iter
        if is_last or finished % self.period == 0 or self.evaluation_hooks.is_due(finished):
            self.save()


class WriteAroundEvaluation(HookBase):
    """Writes the log before each evaluation, which overwrites metrics, and its results at once.

    A later write could be after the next checkpoint: a kill between them would lose the results. It
    is registered twice, before and after the evaluation.

    Args:
        writers: of the log.
        evaluation_hooks: run between.
    """

    def __init__(
        self, writers: Sequence[EventWriter], *, evaluation_hooks: EvaluationHooks
    ) -> None:
        self.writers = writers
        self.evaluation_hooks = evaluation_hooks

    def before_train(self) -> None:
        if self.evaluation_hooks.has_repeated:
            self._write()

    def after_step(self) -> None:
        if self.evaluation_hooks.is_due(self.trainer.iter + 1):
            self._write()

    def _write(self) -> None:
        for writer in self.writers:
            writer.write()
