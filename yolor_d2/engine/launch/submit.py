"""Training as a SLURM job: when out of time or preempted, a run saves and is requeued."""

import os
import runpy
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import signals

SECONDS_TO_SAVE = 120  # between SLURM's SIGUSR2 and the end of a job
MAX_TIMEOUTS = 1000  # submitit's limit of requeues; effectively none


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources of a job.

    Attributes:
        nodes: number of machines.
        gpus: GPUs, and processes, per machine.
        cpus: CPU cores per process.
        timeout: minutes until the job is requeued.
        partition, constraint, comment: SLURM's options of these names; None omits them.
    """

    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    timeout: int = 60
    partition: str | None = None
    constraint: str | None = None
    comment: str | None = None


class Job:
    """Runs a training script in submitit's process, and requeues only after the run is saved.

    submitit requeues as soon as it gets SIGUSR2. While a run watches for signals, the run gets the
    signal instead; before there is anything to save, submitit still gets it.
    """

    def __call__(self, command: Sequence[str]) -> None:
        """Run a command as `python` would.

        Args:
            command: a script and its arguments.
        """
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0:  # SLURM requeues failed nodes
            command = resuming(command)
        requeue = signal.getsignal(signal.SIGUSR2)
        sys.argv = list(command)
        sys.path.insert(0, str(Path(command[0]).parent))
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            if isinstance(end, signals.Interrupted) and end.signal == "SIGUSR2":
                assert callable(requeue), "submitit handles SIGUSR2"
                requeue(signal.SIGUSR2, None)
                # The process that requeues has exited by now. If another process failed, SLURM
                # could end the job before it is requeued.
                return
            if end.code:
                raise

    def checkpoint(self, command: Sequence[str]) -> Any:
        """The submission that submitit queues to continue the run."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, resuming(command))


def resuming(command: Sequence[str]) -> list[str]:
    """The command with --resume."""
    script, *rest = command
    return [script, *(["--resume"] if "--resume" not in rest else []), *rest]


def submit(command: Sequence[str], resources: Resources, *, folder: Path, cluster: str) -> Any:
    """Queue a command.

    Args:
        command: a script and its arguments.
        resources: of the job.
        folder: for logs, a subfolder per job.
        cluster: "slurm", or "local" to run on this machine.

    Returns:
        submitit's job.

    Raises:
        ImportError: submitit is not installed.
    """
    from submitit import AutoExecutor

    executor = AutoExecutor(
        folder=folder / "%j", cluster=cluster, slurm_max_num_timeout=MAX_TIMEOUTS
    )
    executor.update_parameters(
        name="yolor_d2",
        nodes=resources.nodes,
        gpus_per_node=resources.gpus,
        tasks_per_node=max(resources.gpus, 1) if cluster == "slurm" else 1,
        cpus_per_task=resources.cpus,
        timeout_min=resources.timeout,
        slurm_partition=resources.partition,
        slurm_constraint=resources.constraint,
        slurm_comment=resources.comment,
        slurm_signal_delay_s=SECONDS_TO_SAVE,
    )
    return executor.submit(Job(), list(command))
