"""Temporary modes of modules."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norms untouched by all inputs, also infinite ones.

    In training mode they still normalize with batch statistics. (A momentum of 0 is not enough: it
    counts the batch, and 0 * inf is NaN.)
    """
    norms = [m for m in module.modules() if isinstance(m, BATCH_NORMS) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def training_flag(head: nn.Module) -> Iterator[None]:
    """Let a head compute what its losses need; some heads do so in training mode only.

    Only the head's own flag is set; the modes of its layers stay.
    """
    before = head.training
    head.training = True
    try:
        yield
    finally:
        head.training = before


def is_trainable(module: nn.Module) -> bool:
    """Whether any parameter requires a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())
