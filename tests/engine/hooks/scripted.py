"""A trainer whose steps do nothing but put numbers into the log."""

from collections.abc import Mapping, Sequence

from detectron2.engine import HookBase, TrainerBase

Script = Mapping[int, Mapping[str, float]]


class ScriptedTrainer(TrainerBase):
    """Puts what the script has for an iteration into the storage; stops when asked to.

    Args:
        script: scalars by iteration.
        hooks: that are tested.
    """

    def __init__(self, script: Script, hooks: Sequence[HookBase]) -> None:
        super().__init__()
        self.script = script
        self.reason = ""
        self.register_hooks(hooks)

    def run_step(self) -> None:
        if not self.reason:
            self.storage.put_scalars(**self.script.get(self.iter, {}), smoothing_hint=False)

    def request_stop(self, reason: str) -> None:
        self.reason = reason


def run(script: Script, *hooks: HookBase, start: int = 0, steps: int = 10) -> ScriptedTrainer:
    trainer = ScriptedTrainer(script, hooks)
    trainer.train(start, start + steps)
    return trainer
