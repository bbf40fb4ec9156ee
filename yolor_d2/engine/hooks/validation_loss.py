"""Losses on images that are not trained on."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn

from ...errors import ConfigError
from ...modeling.meta_arch import YOLOR
from ..evaluation import InterruptibleLoader, stop_if_requested
from ..optim.ema import ModelEMA
from ..parallel import share_state

logger = logging.getLogger(__name__)

Batch = Sequence[dict[str, Any]]
Autocast = Callable[[], AbstractContextManager]


class ValidationLoss(HookBase):
    """Logs "validation/loss_...", "validation/total_loss", and the same for "validation_ema/".

    Training is not affected: no random number is drawn, no statistic changes, and the mode of
    each module is restored.

    Args:
        model: not wrapped.
        loaders: of the test sets, made by `build_validation_loader`; each process has its share.
        period: in steps; losses are measured after the last step as well.
        ema: returns the EMA of the weights, whose losses are measured too; None: no EMA.
        autocast: returns the context of the forward pass.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loaders: Sequence[Iterable[Batch]],
        period: int,
        ema: Callable[[], ModelEMA | None] = lambda: None,
        autocast: Autocast = nullcontext,
    ) -> None:
        if not isinstance(model, YOLOR):
            raise ConfigError("TEST.LOSS_PERIOD needs MODEL.META_ARCHITECTURE YOLOR")
        if not loaders:
            raise ConfigError("TEST.LOSS_PERIOD is not 0, but DATASETS.TEST is empty")
        self.model = model
        self.loaders = [InterruptibleLoader(loader) for loader in loaders]
        self.period = period
        self.ema = ema
        self.autocast = autocast

    def after_step(self) -> None:
        finished = self.trainer.iter + 1
        if finished % self.period and finished != self.trainer.max_iter:
            return
        self._measure("validation")
        ema = self.ema()
        if ema is not None:
            with ema.applied():
                self._measure("validation_ema")

    def _measure(self, prefix: str) -> None:
        share_state(self.model)  # statistics of batch norms are each process's own
        losses = mean_losses(self.model, self.loaders, autocast=self.autocast)
        stop_if_requested()  # after a signal, the losses are of some images only
        total = sum(losses.values())
        values = {f"{prefix}/{name}": loss for name, loss in losses.items()}
        values[f"{prefix}/total_loss"] = total
        self.trainer.storage.put_scalars(**values, smoothing_hint=False)
        parts = ", ".join(f"{n.removeprefix('loss_')} {loss:.4g}" for n, loss in losses.items())
        finished = self.trainer.iter + 1
        logger.info("%s loss after %d steps: %.4g (%s)", prefix, finished, total, parts)


@torch.no_grad()
def mean_losses(
    model: YOLOR, loaders: Sequence[Iterable[Batch]], *, autocast: Autocast = nullcontext
) -> dict[str, float]:
    """The mean of each loss over all images of all processes; batches are weighted by images."""
    sums: dict[str, Tensor] = {}
    images = 0
    with evaluation_mode(model):
        for batch in chain.from_iterable(loaders):
            with autocast():
                losses = model.training_losses(batch)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.double() * len(batch)
            images += len(batch)
    return _over_processes({name: value.item() for name, value in sums.items()}, images)


def _over_processes(sums: Mapping[str, float], images: int) -> dict[str, float]:
    total: Counter[str] = Counter()
    total_images = 0
    for other_sums, other_images in comm.all_gather((dict(sums), images)):
        total.update(other_sums)
        total_images += other_images
    return {name: value / total_images for name, value in total.items()}


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode; afterwards, restore the mode of each module."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
