"""What batch norms of a whole network are told to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def unmoved_statistics(module: nn.Module, *, when: bool) -> Iterator[None]:
    """Batch norms normalise as ever, but their running statistics stay."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms if when else ():
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
