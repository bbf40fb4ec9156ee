"""One step of the optimizer: batches -> losses -> gradients -> weights.

The host waits for the device once, for the values of the log. They also show whether all values are
finite and whether a process was asked to stop.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import NonFiniteError
from ..modeling.objects import Reward
from ..modeling.views import Teacher
from .cpu_setting import CPUSetting
from .nonfinite import FloatBuffers, report_nonfinite
from .optim.ema import ModelEMA
from .optim.loss_factors import LossFactors
from .optim.optimizer import load_by_names, names_of
from .optim.schedule import Schedule
from .options import RunOptions
from .parallel import unwrap
from .stopwatch import Stopwatch
from .task_balance import TaskBalance
from .task_gradients import task_gradient_norms

logger = logging.getLogger(__name__)

Batch = Sequence[Mapping[str, Any]]
DTYPES = {"": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Averaged together with the losses; GRAD_NORM also for each task, as in "grad_norm/mask".
GRAD_NORM, BUFFERS, STOP = "grad_norm", "buffers", "stop"


class TrainStep(TrainerBase):
    """Losses of one or more batches, their mean gradient, one step of the optimizer.

    Args:
        model: returns a dict of losses; may be wrapped for several processes.
        optimizer: of its parameters.
        schedule: sets learning rates and momenta as a function of the iteration; None: a hook
            sets them.
        options: of the run.
        stop_requested: returns whether this process was asked to stop.
        reward: of sampled captions; passed to the model if given.
        teacher: another network to learn from as well; passed to the model if given.

    Attributes:
        batches: of the training data; set before the first step.
        balance: of the tasks' gradients; None: they are as the loss weights make them.
        ema: moving average of the weights, updated after each step; None: no EMA.
        cpu_setting: of the steps on a CPU; None on a GPU.
        stop_agreed: whether a process had been asked to stop before the last step ended.
    """

    batches: Iterator[Batch]

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule | None,
        options: RunOptions,
        stop_requested: Callable[[], bool] = lambda: False,
        reward: Reward | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.options = options
        self.stop_requested = stop_requested
        given = {"reward": reward, "teacher": teacher}
        self.model_arguments = {name: guide for name, guide in given.items() if guide is not None}
        self.reset_ema()
        self.dtype = DTYPES[options.precision]
        self.loss_factors = LossFactors(
            options.loss_factors, total=options.max_iter, key=options.key("loss_factors")
        )
        self.balance = (
            TaskBalance(unwrap(model), options.gradient_shares, key=options.key("gradient_shares"))
            if options.gradient_shares
            else None
        )
        self.cpu_setting: CPUSetting | None = None
        self.stop_agreed = False
        self.skipped = 0  # steps in a row
        self.device = next(model.parameters()).device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.statistics = FloatBuffers(model)
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.dtype is torch.float16, init_scale=2.0**14
        )

    def set_up_cpu(self, setting: CPUSetting) -> None:
        """Make the following steps with this setting."""
        self.cpu_setting = setting
        self.dtype = DTYPES[setting.precision]
        setting.apply(unwrap(self.model))

    def reset_ema(self) -> None:
        """Restart the moving average of the weights from the current weights."""
        decay, tau = self.options.ema_decay, self.options.ema_tau
        model = unwrap(self.model)
        self.ema = ModelEMA(model, decay=decay, tau=tau) if decay else None

    def state_dict(self) -> dict[str, Any]:
        """All that changes with the steps, except for the state of the schedule."""
        model = unwrap(self.model)
        state = {
            "model": model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_type": type(self.optimizer).__name__,
            "optimizer_names": names_of(self.optimizer, model),
            "skipped": self.skipped,
        }
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        if self.cpu_setting is not None:
            state["cpu_setting"] = self.cpu_setting._asdict()
        if self.balance is not None:
            state["gradient_norms"] = self.balance.norms
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; files of earlier versions have fewer entries."""
        model = unwrap(self.model)
        if self.cpu_setting is not None and self.options.cpu != "keys":
            earlier = CPUSetting("", self.options.channels_last, torch.get_num_threads())
            self.set_up_cpu(CPUSetting(**state_dict.get("cpu_setting", earlier._asdict())))
        model.load_state_dict(state_dict["model"])
        kind = type(self.optimizer).__name__
        if state_dict.get("optimizer_type", kind) == kind:
            saved, names = state_dict["optimizer"], state_dict["optimizer_names"]
            load_by_names(self.optimizer, model, saved, names=names)
        else:
            logger.warning("another optimizer: its moving averages start from zero")
        self.skipped = state_dict.get("skipped", 0)
        if self.ema is not None and "ema" in state_dict:
            self.ema.load_state_dict(state_dict["ema"])
        else:
            self.reset_ema()
        if self.balance is not None:
            self.balance.norms = dict(state_dict.get("gradient_norms", {}))
        if "scaler" in state_dict:
            self.scaler.load_state_dict(state_dict["scaler"])

    def run_step(self) -> None:
        started = time.perf_counter()
        watch = Stopwatch(self.device)
        if self.schedule is not None:
            self.schedule.apply(self.optimizer, self.iter)
        self.statistics.save()
        losses, batches = self._gradients(watch)
        self.scaler.unscale_(self.optimizer)
        norm = self.options.clip(self.parameters)
        measured = self._average(losses, norm)
        loss_values = {name: measured[name] for name in losses}
        if _all_finite(measured.values()):
            self._update(measured)
        else:
            self._skip(measured, losses, batches)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        norms = {name: each for name, each in measured.items() if name.startswith(GRAD_NORM)}
        self._write(loss_values, norms, watch, batches, started)

    def _gradients(self, watch: Stopwatch) -> tuple[dict[str, Tensor], list[Batch]]:
        """Accumulate the gradients of the batches; return the mean losses, and the batches."""
        means: dict[str, Tensor] = {}
        batches = []
        accum_steps = self.options.accum_steps
        for number in range(accum_steps):
            with watch.time("data"):
                batch = next(self.batches)
            batches.append(batch)
            is_last = number == accum_steps - 1
            if self.options.compile:
                torch.compiler.cudagraph_mark_step_begin()  # for COMPILE_MODE reduce-overhead
            # They need the graph twice, which a compiled backward pass does not allow.
            needs_task_gradients = is_last and self._needs_task_gradients()
            with self._synchronization(is_last):
                with watch.time("forward"), self.autocast(), _compilation(not needs_task_gradients):
                    losses = self.model(batch, **self.model_arguments)
                weighted = self.loss_factors.apply(losses, self.iter)
                if needs_task_gradients:
                    self._write_task_gradients(weighted)
                with watch.time("backward"), self._measurement():
                    total = reduce(torch.add, weighted.values()) / accum_steps
                    self.scaler.scale(total).backward()
            for name, loss in losses.items():
                means[name] = means.get(name, 0.0) + loss.detach().float() / accum_steps
        return means, batches

    def autocast(self) -> AbstractContextManager:
        """Context of the forward pass: its precision."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _synchronization(self, is_last: bool) -> AbstractContextManager:
        """Context of a batch: processes exchange gradients only with the last batch of a step."""
        if isinstance(self.model, DistributedDataParallel) and not is_last:
            return self.model.no_sync()
        return nullcontext()

    def _measurement(self) -> AbstractContextManager:
        return nullcontext() if self.balance is None else self.balance.measuring()

    @torch.no_grad()
    def _average(self, losses: Mapping[str, Tensor], norm: Tensor) -> dict[str, float]:
        """Means over all processes, on the host: the only time that it waits for the device."""
        stop = torch.tensor(float(self.stop_requested()))
        values = {**losses, GRAD_NORM: norm, BUFFERS: self.statistics.zero_or_nan(), STOP: stop}
        if self.balance is not None:
            norms = self.balance.take_norms(self.device, scale=self.scaler.get_scale())
            values |= {f"{GRAD_NORM}/{task}": each for task, each in norms.items()}
        vector = torch.stack([v.to(self.device, torch.float32) for v in values.values()])
        if comm.get_world_size() > 1:
            dist.all_reduce(vector)
            vector /= comm.get_world_size()
        measured = dict(zip(values, vector.tolist(), strict=True))
        self.stop_agreed = measured[STOP] > 0
        return measured

    def _update(self, measured: Mapping[str, float]) -> None:
        self.optimizer.step()
        if self.balance is not None:
            tasks = self.balance.shares
            self.balance.update({task: measured[f"{GRAD_NORM}/{task}"] for task in tasks})
        if self.ema is not None:
            self.ema.update()
        self.skipped = 0

    def _skip(
        self, measured: Mapping[str, float], losses: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> None:
        """Skip the step or end the run, because a value is not finite."""
        others = (value for name, value in measured.items() if not name.startswith(GRAD_NORM))
        # At a scale of 1 or less, it is not an overflow of scaled gradients.
        if self.scaler.is_enabled() and self.scaler.get_scale() > 1 and _all_finite(others):
            self.statistics.restore()
            logger.info("step %d: gradients overflow in fp16; the loss scale is halved", self.iter)
            return
        paths = self._report(measured, losses, batches)
        self.statistics.restore()
        self.skipped += 1
        what = f"step {self.iter} is not finite; see {', '.join(paths)}"
        if self.options.nonfinite == "stop":
            raise NonFiniteError(f"{what} ({self.options.key('nonfinite')} skip would skip it)")
        if self.skipped > self.options.max_skipped:
            raise NonFiniteError(f"{what}; {self.skipped} such steps in a row")
        logger.warning("%s; it is skipped", what)

    def _report(
        self, measured: Mapping[str, float], losses: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> list[str]:
        """Write a report in each process; return the files of processes with non-finite values."""
        own = {name: loss.item() for name, loss in losses.items()}
        own[BUFFERS] = self.statistics.zero_or_nan().item()
        path = report_nonfinite(
            Path(self.options.output_dir),
            iteration=self.iter,
            rank=comm.get_rank(),
            measured=measured,
            own=own,
            model=self.model,
            batches=batches,
        )
        # Wait until all have written: a process that ends would end the others.
        reports = comm.all_gather((str(path), not _all_finite(own.values())))
        # Gradients are averaged over processes, so they do not show the origin.
        return [path for path, is_bad in reports if is_bad] or [path for path, _ in reports]

    def _needs_task_gradients(self) -> bool:
        period = self.options.task_gradient_period
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
        norms: Mapping[str, float],
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
            **norms,
            images_per_second=images / duration,
            **times,
            **{"time/step": 1000 * duration},
        )
        lr = self.optimizer.param_groups[0]["lr"]
        self.storage.put_scalar("lr", lr, smoothing_hint=False)


def _all_finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _compilation(enabled: bool) -> AbstractContextManager:
    """Context in which compiled parts of the model run as compiled, or else eagerly."""
    return nullcontext() if enabled else torch.compiler.set_stance("force_eager")
