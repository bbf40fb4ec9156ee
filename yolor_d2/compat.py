"""The differences between detectron2 0.6 and its main branch, in one place."""

import os
from pathlib import Path

from detectron2.utils import comm
from torch import distributed


def dataset_root() -> Path:
    """Where data sets live: DETECTRON2_DATASETS, by default ./datasets. 0.6 does not expand `~`."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def create_local_process_group(processes_per_machine: int) -> None:
    """Tell detectron2 which processes share a machine. In 0.6 only its own launcher can.

    Args:
        processes_per_machine: the same on all machines; ranks count up machine by machine.
    """
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(processes_per_machine)
        return
    for first in range(0, distributed.get_world_size(), processes_per_machine):
        ranks = list(range(first, first + processes_per_machine))
        group = distributed.new_group(ranks)  # every process makes every group
        if distributed.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group
