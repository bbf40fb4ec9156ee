"""SLURM's variables of a task, as those of torchrun."""

import re
from argparse import Namespace
from collections.abc import Mapping

from ...errors import OptionError


def is_task(args: Namespace, environ: Mapping[str, str]) -> bool:
    """Whether this process is one of several that srun started for the same run.

    Flags for several processes have priority: SLURM's variables are also set for `--num-gpus 8` in
    a batch script without srun, and for detectron2's flags with one task on each machine.

    Raises:
        ValueError: srun and the flags would both start processes.
    """
    if "SLURM_PROCID" not in environ or int(environ.get("SLURM_NTASKS", "1")) == 1:
        return False
    if args.num_gpus * args.num_machines <= 1:
        return True
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > args.num_machines:
        raise OptionError(
            f"srun starts {tasks} processes, and --num-gpus {args.num_gpus} would start more in "
            "each of them: omit --num-gpus"
        )
    return False


def group_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that torchrun would set for this task; MASTER_ADDR and MASTER_PORT are kept.

    Raises:
        ValueError: machines have different numbers of tasks, or tasks are in another order.
    """
    layout = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ["SLURM_TASKS_PER_NODE"]
    hosts = environ.get("SLURM_STEP_NODELIST") or environ["SLURM_JOB_NODELIST"]
    rank, local_rank = int(environ["SLURM_PROCID"]), int(environ["SLURM_LOCALID"])
    sizes = set(tasks_per_machine(layout))
    local_size = sizes.pop()
    if sizes or rank % local_size != local_rank:
        raise OptionError(
            f"SLURM_TASKS_PER_NODE is {layout}, and task {rank} is number {local_rank} of its "
            "machine: every machine needs the same number of tasks, counted machine by machine "
            "(srun --ntasks-per-node=N --distribution=block)"
        )
    # A port for each job, below the range of outgoing connections.
    port = 15000 + int(environ["SLURM_JOB_ID"]) % 15000
    return {
        "MASTER_ADDR": environ.get("MASTER_ADDR") or first_host(hosts),
        "MASTER_PORT": environ.get("MASTER_PORT") or str(port),
        "RANK": str(rank),
        "WORLD_SIZE": environ["SLURM_NTASKS"],
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_size),
    }


def tasks_per_machine(layout: str) -> list[int]:
    """`4(x2),3` -> [4, 4, 3]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", layout)
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def first_host(hosts: str) -> str:
    """`node[003-007,010],other` -> node003."""
    first = re.split(r",(?![^\[]*\])", hosts, maxsplit=1)[0]
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", first)
