"""The parts of a run: trainer.py makes them from a *.yaml, lazy.py from a LazyConfig."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from fvcore.common.param_scheduler import ParamScheduler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..tokenizer import Tokenizer
from .batch_size import largest_batch
from .evaluation import Results
from .optim.schedule import Schedule
from .options import RunOptions
from .starting_point import StartingPoint
from .step import Batch
from .teacher import Teacher, build_teacher

Scheduler: TypeAlias = Schedule | LRScheduler | ParamScheduler


@dataclass(frozen=True, kw_only=True)
class DataParts:
    """The data of a run.

    Attributes:
        train, test: names of data sets.
        train_loader: makes a loader of the batches from an iteration on.
        validation_loaders: makes loaders of the test sets for validation losses.
        image_format: "RGB" or "BGR", of the training images.
        batch_size: images of a batch, over all processes.
        canvas: side of a training view, in pixels.
    """

    train: Sequence[str]
    test: Sequence[str]
    train_loader: Callable[[int], Iterable[Batch]]
    validation_loaders: Callable[[], Sequence[Iterable[Any]]]
    image_format: str
    batch_size: int
    canvas: int


class MemorySettings(NamedTuple):
    """Settings that memory depends on, as they are typed; {} stands for the value.

    Attributes:
        batch: images of a batch, over all processes.
        accum: batches of a step.
        amp: turns AMP on.
        checkpointing: turns activation checkpointing on.
        canvas: sides of the training views.
    """

    batch: str
    accum: str
    amp: str
    checkpointing: str
    canvas: str


@dataclass(frozen=True, kw_only=True)
class ConfigText:
    """A configuration as text.

    Attributes:
        text: the whole configuration.
        file_name: in the output folder.
        changes: returns a line for each relevant difference between an earlier text and this one.
        weights_key: key of the weights to start from, for messages.
        memory: settings that memory depends on, for messages.
    """

    text: str
    file_name: str
    changes: Callable[[str, str], list[str]]
    weights_key: str
    memory: MemorySettings


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """All that a run or an evaluation consists of.

    Attributes:
        model: makes a model, on its device.
        optimizer: makes the optimizer of a prepared model.
        schedule: makes the schedule of an optimizer.
        evaluate: evaluates a model on all test sets.
        tokenizer: of the captions; None without captions.
    """

    options: RunOptions
    config: ConfigText
    data: DataParts
    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    schedule: Callable[[torch.optim.Optimizer], Scheduler]
    evaluate: Callable[[nn.Module], Results]
    tokenizer: Tokenizer | None = None

    def largest_batch(self, *, device: str) -> int:
        """The largest batch that fits into memory, over all processes; see `largest_batch`."""
        return largest_batch(
            model=self.model,
            optimizer=self.optimizer,
            options=self.options,
            loader=partial(self.data.train_loader, 0),
            device=device,
            teacher=self.teacher,
        )

    def teacher(self, model: nn.Module) -> Teacher | None:
        """The teacher of a model; None without one."""
        return build_teacher(
            self.options,
            model,
            tokenizer=self.tokenizer,
            datasets=[*self.data.train, *self.data.test],
            image_format=self.data.image_format,
        )


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A configuration before its parts are made.

    Attributes:
        seed: of all random generators; negative: random.
        weights: file that a new run starts from or that is evaluated; "": none.
        sources: files that a new run reads, which it must not remove; "": none.
        parts: makes the parts of a run that has this starting point.
    """

    options: RunOptions
    seed: int
    weights: str
    sources: Sequence[str]
    parts: Callable[[StartingPoint], RunParts]
