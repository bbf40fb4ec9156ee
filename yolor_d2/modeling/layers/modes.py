"""What modules of a network are told for a while, or can be asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def norm_momentum(module: nn.Module, momentum: float) -> Iterator[None]:
    """How far batch norms move their running statistics: 0.0 not at all, 1.0 to those of the batch.

    What they normalise by in training is the batch as ever.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
    try:
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.momentum = old


@contextmanager
def asked_for_losses(head: nn.Module) -> Iterator[None]:
    """detectron2's semantic heads give losses when they are in training; their layers stay."""
    before = head.training
    head.training = True
    try:
        yield
    finally:
        head.training = before


def learns(module: nn.Module) -> bool:
    """Whether training moves any of its parameters."""
    return any(parameter.requires_grad for parameter in module.parameters())
