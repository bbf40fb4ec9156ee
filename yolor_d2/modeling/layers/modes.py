"""Temporary modes of modules."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class FrozenStatistics(AbstractContextManager[None]):
    """Leave the running statistics of batch norms untouched by all inputs, also infinite ones.

    In training mode they still normalize with batch statistics. They update copies. (A momentum of
    0 is not enough: it counts the batch, and 0 * inf is NaN. With `track_running_stats` off, they
    save other tensors for the backward pass, which activation checkpointing does not allow.) The
    context can be used several times.
    """

    def __init__(self, module: nn.Module) -> None:
        self.norms = [each for each in module.modules() if isinstance(each, BATCH_NORMS)]
        self._buffers: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        self._buffers = [
            (norm, *item) for norm in self.norms for item in norm.named_buffers(recurse=False)
        ]
        for norm, name, buffer in self._buffers:
            setattr(norm, name, buffer.clone())

    def __exit__(self, *error: object) -> None:
        for norm, name, buffer in self._buffers:
            setattr(norm, name, buffer)


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
