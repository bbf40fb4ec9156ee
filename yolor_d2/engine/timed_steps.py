"""The best setting of training steps on a CPU, found by a few of them."""

import logging
import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
from detectron2.utils import comm

from ..modeling.reduce import own_counts
from .batch_size import no_reward
from .cpu_setting import CPUSetting
from .parallel import unwrap
from .rng_state import random_state, set_random_state
from .step import Batch, TrainStep

logger = logging.getLogger(__name__)

REPEATS = 3
# Steps with twice the threads must take at most this share of the time: threads of small networks
# spend much of theirs waiting for each other.
WORTH_TWICE_THE_THREADS = 0.85


def choose_by_time(trainer: TrainStep, batches: Iterable[Batch]) -> None:
    """Set up the fewest threads that are about as fast as all, the fastest precision and layout.

    All processes call this. Weights, statistics and random generators keep their values. Where
    algorithms must be deterministic, or on a GPU, nothing is timed.

    Args:
        trainer: before its first step.
        batches: their first one is used.
    """
    start = trainer.cpu_setting
    if start is None or torch.are_deterministic_algorithms_enabled():
        return
    state = random_state()
    buffers = [buffer.clone() for buffer in trainer.model.buffers()]
    trial = _Trial(trainer, next(iter(batches)))
    with own_counts():  # processes time different steps
        # Threads first: beside other programs, steps with too many take several times as long.
        best = fewest_threads(start, trial)
        best = min((best._replace(precision=each) for each in {best.precision, ""}), key=trial)
        best = min((best._replace(channels_last=each) for each in (True, False)), key=trial)
    trainer.set_up_cpu(comm.all_gather(best)[0])
    for buffer, before in zip(trainer.model.buffers(), buffers, strict=True):
        buffer.copy_(before)
    set_random_state(state)


def fewest_threads(setting: CPUSetting, seconds: Callable[[CPUSetting], float]) -> CPUSetting:
    """Halve the number of threads as long as it takes little more time.

    Args:
        setting: the largest number of threads.
        seconds: of a step with a setting.
    """
    while setting.threads > 1:
        half = setting._replace(threads=setting.threads // 2)
        if seconds(setting) <= WORTH_TWICE_THE_THREADS * seconds(half):
            break
        setting = half
    return setting


class _Trial:
    """Forward and backward passes of one batch; a call returns their seconds with a setting."""

    def __init__(self, trainer: TrainStep, batch: Batch) -> None:
        self.trainer = trainer
        self.batch = batch
        self.arguments = dict(trainer.model_arguments)
        if "reward" in self.arguments:  # its averages are logged
            self.arguments["reward"] = no_reward
        self.seconds: dict[CPUSetting, float] = {}

    def __call__(self, setting: CPUSetting) -> float:
        if setting not in self.seconds:
            self.trainer.set_up_cpu(setting)
            self._step()  # the first one also prepares the convolutions
            self.seconds[setting] = median(self._step() for _ in range(REPEATS))
            logger.info("%s: %.0f ms", setting, 1000 * self.seconds[setting])
        return self.seconds[setting]

    def _step(self) -> float:
        begin = time.perf_counter()
        model = unwrap(self.trainer.model).train()
        with self.trainer.autocast():
            losses = model(self.batch, **self.arguments)
        sum(losses.values()).backward()
        self.trainer.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begin
