"""Settings, results, timing and calibration, shared by the benchmarks of networks."""

import copy
import gc
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from yolor_d2.modeling.heads import AnchorFreeHead, PrototypeMaskHead, SemanticHead
from yolor_d2.modeling.layers.modes import BATCH_NORMS
from yolor_d2.modeling.meta_arch import YOLOR

from .timing import Clock, Job

MIN_TURN = 0.2  # seconds; shorter jobs run several times per repeat

Row = dict[str, float]


class Table(NamedTuple):
    """Results of one kind. The name of a column contains its unit and selects its format."""

    title: str
    rows: dict[str, Row]


class Aim(NamedTuple):
    """A target value, and whether it is reached."""

    text: str
    value: float
    reached: bool


class Result(NamedTuple):
    """Results of a part of the benchmark."""

    tables: list[Table]
    aims: list[Aim]

    def as_json(self) -> dict[str, Any]:
        return {
            "tables": [table._asdict() for table in self.tables],
            "aims": [aim._asdict() for aim in self.aims],
        }


class Setting(NamedTuple):
    """Network and settings of a benchmark."""

    cfg: CfgNode
    model: YOLOR
    size: int  # side of the square images in pixels
    batches: list[int]  # batch sizes of the forward pass
    train_batches: list[int]  # batch sizes of training steps
    memory_batch: int  # batch size of the losses whose memory is measured
    repeats: int
    device: torch.device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def vision_model(self) -> YOLOR:
        """Copy of the network for inference, without its caption head."""
        vision = copy.deepcopy(self.model).eval()
        vision.caption_head = None
        return vision

    def vision_heads(self) -> tuple[AnchorFreeHead, PrototypeMaskHead, SemanticHead]:
        """Heads of boxes, masks and the semantic map, which must be yolor_d2's own."""
        detection, mask = self.model.detection_head, self.model.mask_head
        semantic = self.model.semantic_head
        assert isinstance(detection, AnchorFreeHead)
        assert isinstance(mask, PrototypeMaskHead)
        assert isinstance(semantic, SemanticHead)
        return detection, mask, semantic

    def half_precision(self, *, enabled: bool = True) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Let PyTorch use this number of CPU threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_clock(device: torch.device) -> Clock:
    """Return a wall clock that first waits for the device."""
    if device.type != "cuda":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def time_in_turns(
    jobs: Mapping[str, Job],
    *,
    repeats: int,
    device: torch.device,
    calls: int | None = None,
    clock: Clock | None = None,
) -> dict[str, list[float]]:
    """Seconds of each job in each repeat.

    Every repeat runs all jobs, so that other load affects all jobs equally. Each job first runs
    twice: to compile and warm up, and to find how many runs take MIN_TURN seconds.

    Args:
        jobs: by name.
        repeats: of all jobs.
        device: whose queue is emptied before a clock is read.
        calls: runs of a job in each repeat; None: as many as take MIN_TURN seconds.
        clock: returns the time in seconds; None: `device_clock`.
    """
    now = clock or device_clock(device)

    def seconds(job: Job, calls: int) -> float:
        gc.collect()
        start = now()
        for _ in range(calls):
            job()
        return (now() - start) / calls

    runs = {}
    for name, job in jobs.items():
        job()
        once = seconds(job, 1)
        runs[name] = calls or max(1, round(MIN_TURN / once))
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            times[name].append(seconds(job, runs[name]))
    return times


def time_rows(times: Mapping[str, Sequence[float]], *, base: str | None = None) -> dict[str, Row]:
    """Median, minimum and maximum of each job, and its speedup over `base` (None: no speedup)."""
    rows = {}
    for name, runs in times.items():
        row = {
            "ms": 1000 * statistics.median(runs),
            "lowest ms": 1000 * min(runs),
            "highest ms": 1000 * max(runs),
        }
        if base is not None:
            row["times as fast"] = speedup(times[base], runs)
        rows[name] = row
    return rows


def speedup(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median ratio of times in the same repeat, in which other load affects both equally."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def random_images(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """Random images (N, 3, height, width) in 0..255."""
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, 3, height, width), generator=rng).float().to(device)


@torch.no_grad()
def calibrate(module: nn.Module, job: Job) -> None:
    """Set the batch norm statistics of an untrained network to those of one batch.

    With initial statistics, activations shrink from layer to layer to subnormal numbers, which are
    many times slower on CPUs.

    Args:
        module: untrained network.
        job: runs one forward pass.
    """
    was_training = module.training
    module.train()
    norms = [m for m in module.modules() if isinstance(m, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch
    job()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.train(was_training)


def million_parameters(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6
