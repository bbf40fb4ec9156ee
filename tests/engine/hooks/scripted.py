"""A trainer whose steps only log scripted values."""

from collections.abc import Mapping, Sequence

from detectron2.engine import HookBase, TrainerBase

Script = Mapping[int, Mapping[str, float]]


class ScriptedTrainer(TrainerBase):
    """Logs the values of a script; stops on request.

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
