"""Counts of the whole batch, whose images are spread over processes.

DistributedDataParallel averages gradients over processes. A loss is a sum over what there is to
learn, divided by how much that is. When each process multiplies its own sum by the number of
processes and divides it by the count of all, the mean is what one process would learn from all
images, however unequally they are spread. So is the mean of the losses' values.
"""

from typing import NamedTuple

import torch
import torch.distributed
from detectron2.utils import comm
from torch import Tensor


class BatchCount(NamedTuple):
    """How much there is to learn from the whole batch."""

    total: Tensor  # scalar, over all processes
    processes: int


def over_processes(count: Tensor) -> BatchCount:
    """Add up a count over all processes, on the device, without waiting for it.

    All processes must get here, in the same order, whatever their images are. Without gradients
    there is nothing to average: then each process is alone, and may have more batches than others.
    """
    processes = comm.get_world_size() if torch.is_grad_enabled() else 1
    if processes == 1:
        return BatchCount(count, 1)
    total = count.detach().clone()
    torch.distributed.all_reduce(total)
    return BatchCount(total, processes)
