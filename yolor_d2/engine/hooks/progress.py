"""Progress lines of the first steps."""

from collections.abc import Sequence

from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter

STEPS = 2  # the remaining time is known after the second


class FirstSteps(HookBase):
    """Calls writers after each of the first steps of a process, before their first period ends.

    Args:
        writers: of progress lines.
    """

    def __init__(self, writers: Sequence[EventWriter]) -> None:
        self.writers = writers

    def after_step(self) -> None:
        if self.trainer.iter - self.trainer.start_iter < STEPS:
            for writer in self.writers:
                writer.write()
