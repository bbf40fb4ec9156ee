"""Counts over the whole batch in distributed training.

A loss is a sum over items (pixels, points, images) divided by their number, and
DistributedDataParallel averages gradients over processes. If each process multiplies its sum by the
number of processes and divides it by the number of items of all processes, the average equals the
gradient of a single process with all images, even if items are unevenly distributed. The same holds
for the values of the losses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
import torch.distributed
from detectron2.utils import comm
from torch import Tensor

_own_counts: ContextVar[bool] = ContextVar("_own_counts", default=False)


class BatchCount(NamedTuple):
    """A count over the whole batch."""

    total: Tensor  # scalar, over all processes
    processes: int


@contextmanager
def own_counts() -> Iterator[None]:
    """Count the process itself only: inside, processes may compute different numbers of losses."""
    token = _own_counts.set(True)
    try:
        yield
    finally:
        _own_counts.reset(token)


def over_processes(count: Tensor) -> BatchCount:
    """Sum a count over all processes, on the device, without synchronizing with the host.

    All processes must call this in the same order, also for images without targets. Without
    gradients nothing is averaged, so the count of the process itself is returned; processes may
    then have different numbers of batches.
    """
    is_shared = torch.is_grad_enabled() and not _own_counts.get()
    processes = comm.get_world_size() if is_shared else 1
    if processes == 1:
        return BatchCount(count, 1)
    total = count.detach().clone()
    torch.distributed.all_reduce(total)
    return BatchCount(total, processes)
