"""Whatever looks at the weights between two steps: validation losses, evaluation, what follows."""

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ...evaluation.report import headline
from ..evaluation import Results


class Judges(HookBase):
    """Hooks that run, in order, after the state has been saved.

    A run that is killed while they are at work repeats them when it goes on, so that nothing is
    judged twice or not at all.

    Args:
        hooks: they do their work in `after_step`.
        periods: of their work, in steps.
    """

    def __init__(self, hooks: Sequence[HookBase], *, periods: Sequence[int]) -> None:
        self.hooks = list(hooks)
        self.periods = [period for period in periods if period > 0]
        self.done = 0  # finished steps that have been judged

    def is_due(self, finished: int) -> bool:
        """Whether there is something to do after so many finished steps."""
        is_last = finished == self.trainer.max_iter
        return bool(self.periods) and (is_last or any(finished % p == 0 for p in self.periods))

    def before_train(self) -> None:
        for hook in self.hooks:
            hook.trainer = self.trainer
            hook.before_train()

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
    """Evaluates the weights and puts the metrics into the log.

    Args:
        evaluate: gives nested results on the main process.
        period: in steps; the last step is evaluated as well. 0: never.
    """

    def __init__(self, evaluate: Callable[[], Results], *, period: int) -> None:
        self.evaluate = evaluate
        self.period = period
        self.results: Results = {}

    def after_step(self) -> None:
        finished = self.trainer.iter + 1
        if not self.period or (finished % self.period and finished != self.trainer.max_iter):
            return
        # All processes know the results, so that all draw the same conclusions.
        self.results = comm.all_gather(self.evaluate())[0]
        metrics = flatten_results_dict(headline(self.results))
        self.trainer.storage.put_scalars(**metrics, smoothing_hint=False)


class SaveRegularly(HookBase):
    """Saves the run every so many steps, and before anything judges it.

    Args:
        save: saves the state of the run.
        period: in steps.
        judges: what comes next.
    """

    def __init__(self, save: Callable[[], None], *, period: int, judges: Judges) -> None:
        self.save = save
        self.period = period
        self.judges = judges

    def after_step(self) -> None:
        finished = self.trainer.iter + 1
        is_last = finished == self.trainer.max_iter
        if is_last or finished % self.period == 0 or self.judges.is_due(finished):
            self.save()


class WriteBefore(HookBase):
    """Writes the log before it is judged anew: of each metric the storage has the last value only.

    Args:
        writers: of the log.
        judges: what comes next.
    """

    def __init__(self, writers: Sequence[EventWriter], *, judges: Judges) -> None:
        self.writers = writers
        self.judges = judges

    def after_step(self) -> None:
        if self.judges.is_due(self.trainer.iter + 1):
            for writer in self.writers:
                writer.write()
