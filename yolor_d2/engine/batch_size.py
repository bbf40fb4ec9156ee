"""The largest batch whose training step fits into the memory of a GPU."""

import gc
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from ..data.loading.sets import TrainingSet
from ..errors import OutOfMemoryError
from ..modeling.reduce import own_counts
from .optim.ema import ModelEMA
from .options import RunOptions
from .parallel import prepare_for_training
from .rng_state import random_state, set_random_state
from .step import DTYPES, Batch

logger = logging.getLogger(__name__)

CPU_BATCH = 8  # memory is no limit there, but a larger batch is not faster
MARGIN = 0.1  # of the memory of a GPU stays free, for images with more objects and larger canvases
SECONDS = 60.0  # after which no larger batch is tried
HARDEST = 8  # images with the most objects, that the tried batches consist of
NO_LIMIT = 2**16
REPETITIONS = 2  # of a step: the first one of a run also makes the optimizer's state

# Messages of errors that are no OutOfMemoryError.
OTHER_MESSAGES = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of a GPU or the host is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        message in str(error) for message in OTHER_MESSAGES
    )


def largest_batch(
    *,
    model: Callable[[], nn.Module],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    options: RunOptions,
    loader: Callable[[], Iterable[Batch]],
    device: str,
    teacher: Callable[[nn.Module], Any | None] = lambda model: None,
    most: int | None = None,
) -> int:
    """Return the batch size over all processes; all of them must call this.

    Training steps of a model made for this purpose are tried with 1, 2, 4, ... images in each
    process. On a CPU the result is a constant. Global random generators keep their state.

    Args:
        model: makes a model on the device.
        optimizer: makes its optimizer.
        options: of the run.
        loader: makes a loader of training batches.
        device: "cpu" or a GPU.
        teacher: makes the teacher of a model; None: it has none.
        most: images in a process; None: no other limit than the number of training images.

    Raises:
        ValueError: not even a single image fits.
    """
    processes = comm.get_world_size()
    state = random_state()
    try:
        batches = loader()
        dataset = training_set(batches)
        limit = most or NO_LIMIT
        if dataset is not None:
            limit = min(limit, max(len(dataset) // processes, 1))
        if has_own_memory(device):
            with own_counts():  # processes try different numbers of batches
                samples = next(iter(batches)) if dataset is None else dataset.hardest(HARDEST)
                network = model()
                trial = TrialStep(network, optimizer, options, samples, teacher(network))
                size = largest_size(trial, limit=limit)
                del network, trial
            release_memory()
        else:
            size = min(CPU_BATCH, limit)
    finally:
        set_random_state(state)
    size = min(comm.all_gather(size))
    if size == 0:
        raise OutOfMemoryError(
            f"a training step with a single image does not fit into memory ({device})"
        )
    logger.info("batch of %d images, %d at a time on each device", size * processes, size)
    return size * processes


def largest_size(fits: Callable[[int], bool], *, limit: int, seconds: float = SECONDS) -> int:
    """Return the largest of 1, 2, 3, 4, 6, 8, 12, 16, ... that fits, found by doubling; 0 if none.

    Args:
        fits: whether a size fits.
        limit: largest size.
        seconds: time after which no other size is tried.
    """
    end = time.monotonic() + seconds

    def is_possible(size: int) -> bool:
        return size <= limit and time.monotonic() < end and fits(size)

    size = 0
    while is_possible(max(2 * size, 1)):
        size = max(2 * size, 1)
    middle = size * 3 // 2
    return middle if middle > size and is_possible(middle) else size


class TrialStep:
    """Training steps that leave weights as they are; a call returns whether a batch size fits.

    Args:
        model: on its device; it is prepared here.
        optimizer: makes its optimizer.
        options: of the run.
        samples: that batches of any size are made of, in calls.
        teacher: of the model; None: none.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        options: RunOptions,
        samples: Sequence[Any] = (),
        teacher: Any | None = None,
    ) -> None:
        # Not compiled, which takes minutes and saves memory. Without SyncBatchNorm, for which
        # processes wait for each other.
        self.model = prepare_for_training(
            model,
            freeze=options.freeze,
            channels_last=options.channels_last,
            activation_checkpointing=options.activation_checkpointing,
        ).train()
        self.optimizer = optimizer(self.model)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        self.options = options
        self.samples = samples
        self.ema = ModelEMA(self.model) if options.ema_decay else None  # only takes memory
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self_critical = getattr(getattr(model, "caption_head", None), "self_critical", None)
        given = {"reward": self_critical and no_reward, "teacher": teacher}
        self.model_arguments = {name: guide for name, guide in given.items() if guide is not None}

    def __call__(self, size: int) -> bool:
        batch = list(islice(cycle(self.samples), size))
        try:
            for _ in range(REPETITIONS):
                self.step(batch)
            fits = leaves_margin(self.device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        self.optimizer.zero_grad(set_to_none=True)
        release_memory()
        return fits

    def step(self, batch: Batch) -> None:
        """A training step without learning."""
        dtype = DTYPES[self.options.precision]
        # Accumulated gradients take memory during the second forward pass.
        for _ in range(min(self.options.accum_steps, 2)):
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                losses = self.model(batch, **self.model_arguments)
            sum(losses.values()).backward()
        self.options.clip(self.parameters)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def training_set(batches: Iterable[Batch]) -> TrainingSet | None:
    """The data set of a loader; None if it is not one of ours."""
    dataset = getattr(batches, "dataset", None)
    return dataset if isinstance(dataset, TrainingSet) else None


def no_reward(image_ids: Sequence[Any], ids: Tensor) -> Tensor:
    """A reward of 0 for captions (N, K, T)."""
    return torch.zeros(ids.shape[:2])


def has_own_memory(device: str) -> bool:
    """Whether a device is a GPU, whose memory limits the batch."""
    return torch.device(device).type == "cuda"


def leaves_margin(device: torch.device) -> bool:
    """Whether MARGIN of a GPU is free beside the memory that steps have reserved."""
    free, total = torch.cuda.mem_get_info(device)
    return free >= MARGIN * total


def release_memory() -> None:
    """Return the memory of deleted tensors to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
