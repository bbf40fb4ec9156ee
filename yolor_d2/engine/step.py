"""One step of the optimiser: batches -> losses -> gradients -> weights.

The host waits for the device once: for the numbers of the log, which say as well whether all is
finite and whether some process has been asked to stop.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.objects import Reward
from .nonfinite import NonFiniteError, Statistics, report_nonfinite
from .optim.ema import ModelEMA
from .optim.schedule import Schedule
from .parallel import unwrap
from .stopwatch import Stopwatch
from .task_gradients import task_gradient_norms

logger = logging.getLogger(__name__)

Batch = Sequence[Mapping[str, Any]]
PRECISIONS = {"": None, "bf16": torch.bfloat16, "fp16": torch.float16}
GRAD_NORM, BUFFERS, STOP = "grad_norm", "buffers", "stop"  # beside the losses, in what is agreed on


class TrainStep(TrainerBase):
    """Losses of one or more batches, their mean gradient, one step of the optimiser.

    Args:
        model: gives a dict of losses; may be wrapped for several processes.
        optimizer: of its parameters.
        schedule: sets learning rates and momenta as a function of the iteration.
        ema: follows the weights after each step, if given.
        accum_steps: batches whose mean gradient makes a step.
        precision: "" (float32), "bf16", or "fp16" with loss scaling.
        clip: clips gradients in place and gives their total norm.
        nonfinite: "stop" or "skip", what to do when something is not finite.
        max_skipped: steps in a row that may be skipped.
        task_gradient_period: steps between two measurements of the tasks' gradients; 0: never.
        folder: where a step that is not finite is written down.
        stop_requested: whether this process has been asked to stop.
        reward: of sampled captions; passed to the model's forward if given.

    Attributes:
        batches: where the training data come from; set before the first step.
        stop_agreed: whether some process had been asked to stop before the last step ended.
    """

    batches: Iterator[Batch]

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        clip: Callable[[Iterable[nn.Parameter]], Tensor],
        ema: ModelEMA | None = None,
        accum_steps: int = 1,
        precision: str = "",
        nonfinite: str = "stop",
        max_skipped: int = 10,
        task_gradient_period: int = 0,
        folder: Path,
        stop_requested: Callable[[], bool] = lambda: False,
        reward: Reward | None = None,
    ) -> None:
        super().__init__()
        _check(precision=precision, nonfinite=nonfinite, accum_steps=accum_steps)
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.ema = ema
        self.accum_steps = accum_steps
        self.dtype = PRECISIONS[precision]
        self.clip = clip
        self.nonfinite = nonfinite
        self.max_skipped = max_skipped
        self.task_gradient_period = task_gradient_period
        self.folder = folder
        self.stop_requested = stop_requested
        self.model_arguments = {} if reward is None else {"reward": reward}
        self.stop_agreed = False
        self.skipped = 0  # steps in a row
        self.device = next(model.parameters()).device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.statistics = Statistics(model)
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.dtype is torch.float16, init_scale=2.0**14
        )

    def run_step(self) -> None:
        started = time.perf_counter()
        watch = Stopwatch(self.device)
        self.schedule.apply(self.optimizer, self.iter)
        self.statistics.keep()
        losses, batches = self._gradients(watch)
        self.scaler.unscale_(self.optimizer)
        norm = self.clip(self.parameters)
        measured = self._agree(losses, norm)
        loss_values = {name: measured[name] for name in losses}
        if _all_finite(measured.values()):
            self._update()
        else:
            self._leave_out(measured, losses, batches)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._write(loss_values, measured[GRAD_NORM], watch, batches, started)

    def _gradients(self, watch: Stopwatch) -> tuple[dict[str, Tensor], list[Batch]]:
        """Add up the batches' gradients; the mean losses, and the batches."""
        means: dict[str, Tensor] = {}
        batches = []
        for number in range(self.accum_steps):
            with watch.of("data"):
                batch = next(self.batches)
            batches.append(batch)
            is_last = number == self.accum_steps - 1
            with self._synchronization(is_last):
                with watch.of("forward"), self.autocast():
                    losses = self.model(batch, **self.model_arguments)
                if is_last and self._measures_tasks():
                    self._write_task_gradients(losses)
                with watch.of("backward"):
                    total = sum(losses.values()) / self.accum_steps
                    self.scaler.scale(total).backward()
            for name, loss in losses.items():
                means[name] = means.get(name, 0.0) + loss.detach().float() / self.accum_steps
        return means, batches

    def autocast(self) -> AbstractContextManager:
        """The precision of the forward pass."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _synchronization(self, is_last: bool) -> AbstractContextManager:
        """Processes exchange gradients with the last batch of a step only."""
        if isinstance(self.model, DistributedDataParallel) and not is_last:
            return self.model.no_sync()
        return nullcontext()

    @torch.no_grad()
    def _agree(self, losses: Mapping[str, Tensor], norm: Tensor) -> dict[str, float]:
        """Means over all processes, on the host: the one time that it waits for the device."""
        stop = torch.tensor(float(self.stop_requested()))
        values = {**losses, GRAD_NORM: norm, BUFFERS: self.statistics.badness(), STOP: stop}
        vector = torch.stack([v.to(self.device, torch.float32) for v in values.values()])
        if comm.get_world_size() > 1:
            dist.all_reduce(vector)
            vector /= comm.get_world_size()
        measured = dict(zip(values, vector.tolist(), strict=True))
        self.stop_agreed = measured[STOP] > 0
        return measured

    def _update(self) -> None:
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self.skipped = 0

    def _leave_out(
        self, measured: Mapping[str, float], losses: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> None:
        """No step is made of what is not finite."""
        others = (value for name, value in measured.items() if name != GRAD_NORM)
        # With a scale as small as 1, it is no overflow of the scaled gradients.
        if self.scaler.is_enabled() and self.scaler.get_scale() > 1 and _all_finite(others):
            self.statistics.put_back()
            logger.info("step %d: gradients overflow in fp16; the loss scale halves", self.iter)
            return
        paths = self._write_down(measured, losses, batches)
        self.statistics.put_back()
        self.skipped += 1
        what = f"step {self.iter} is not finite; see {', '.join(paths)}"
        if self.nonfinite == "stop":
            raise NonFiniteError(f"{what} (SOLVER.NONFINITE skip would go on without it)")
        if self.skipped > self.max_skipped:
            raise NonFiniteError(f"{what}; {self.skipped} such steps in a row")
        logger.warning("%s; it is skipped", what)

    def _write_down(
        self, measured: Mapping[str, float], losses: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> list[str]:
        """Reports of all processes; the names of those that tell where it comes from."""
        own = {name: loss.item() for name, loss in losses.items()}
        own[BUFFERS] = self.statistics.badness().item()
        path = report_nonfinite(
            self.folder,
            iteration=self.iter,
            rank=comm.get_rank(),
            measured=measured,
            own=own,
            model=self.model,
            batches=batches,
        )
        # Nobody goes on, or ends and takes the others along, before all have written theirs.
        reports = comm.all_gather((str(path), not _all_finite(own.values())))
        # Gradients are the mean of all processes': they do not tell.
        return [path for path, is_bad in reports if is_bad] or [path for path, _ in reports]

    def _measures_tasks(self) -> bool:
        period = self.task_gradient_period
        return period > 0 and (self.iter + 1) % period == 0

    def _write_task_gradients(self, losses: Mapping[str, Tensor]) -> None:
        backbone = unwrap(self.model).get_submodule("backbone")
        trunk = [p for p in backbone.parameters() if p.requires_grad]
        norms = task_gradient_norms(losses, trunk, scale=self.scaler.get_scale())
        for name, norm in norms.items():
            self.storage.put_scalar(f"gradient/{name}", norm.item(), smoothing_hint=False)

    def _write(
        self,
        losses: Mapping[str, float],
        norm: float,
        watch: Stopwatch,
        batches: Sequence[Batch],
        started: float,
    ) -> None:
        duration = time.perf_counter() - started
        images = sum(map(len, batches)) * comm.get_world_size()
        times = {f"time/{part}": 1000 * seconds for part, seconds in watch.seconds().items()}
        self.storage.put_scalars(
            **losses,
            total_loss=sum(losses.values()),
            grad_norm=norm,
            images_per_second=images / duration,
            **times,
            **{"time/step": 1000 * duration},
        )
        lr = self.optimizer.param_groups[0]["lr"]
        self.storage.put_scalar("lr", lr, smoothing_hint=False)


def _all_finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _check(*, precision: str, nonfinite: str, accum_steps: int) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"SOLVER.AMP.DTYPE must be bf16 or fp16, not {precision}")
    if nonfinite not in ("stop", "skip"):
        raise ValueError(f"SOLVER.NONFINITE must be stop or skip, not {nonfinite}")
    if accum_steps < 1:
        raise ValueError(f"SOLVER.ACCUM_STEPS is {accum_steps}; it must be at least 1")
