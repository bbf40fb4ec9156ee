"""Counts over the whole batch in distributed training.

A loss is a sum over items (pixels, points, images) divided by their number, and
DistributedDataParallel averages gradients over processes. If each process multiplies its sum by the
number of processes and divides it by the number of items of all processes, the average equals the
gradient of a single process with all images, even if items are unevenly distributed. The same holds
for the values of the losses.
"""

from typing import NamedTuple

import torch
import torch.distributed
from detectron2.utils import comm
from torch import Tensor


class BatchCount(NamedTuple):
    """A count over the whole batch."""

    total: Tensor  # scalar, over all processes
    processes: int


def over_processes(count: Tensor) -> BatchCount:
    """Sum a count over all processes, on the device, without synchronizing with the host.

    All processes must call this in the same order, also for images without targets. Without
    gradients nothing is averaged, so the count of the process itself is returned; processes may
    then have different numbers of batches.
    """
    processes = comm.get_world_size() if torch.is_grad_enabled() else 1
    if processes == 1:
        return BatchCount(count, 1)
    total = count.detach().clone()
    torch.distributed.all_reduce(total)
    return BatchCount(total, processes)
