"""Train in SLURM's queue: a run that is out of time or preempted saves and queues up again.

    python -m yolor_d2.tools.slurm_train --partition gpu --nodes 2 --gpus 8 --timeout 1440 \\
        train_net.py --config-file configs/COCO/yolor_elan_mtl.yaml OUTPUT_DIR output/run

What follows the options is what would follow `python`. SLURM starts one process for each GPU, so
--num-gpus is left out. Needs submitit. Exit code 2: it cannot be submitted.
"""

import argparse
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine.launch import signals

SECONDS_TO_SAVE = 120  # between SLURM's SIGUSR2 and the end of a job
MAX_TIMEOUTS = 1000  # how often a run may queue up again: as often as it needs


class Job:
    """Runs a script of ours in submitit's process, and hands its signal on after the run is saved.

    submitit requeues when it gets SIGUSR2, at once. While a run watches for signals, it comes to
    the run instead; before there is anything to save, submitit still gets it itself.
    """

    def __call__(self, command: Sequence[str]) -> None:
        """Run it as `python` would.

        Args:
            command: a script and its arguments.
        """
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0:  # by SLURM itself: a node failed
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
                # The process that requeues is gone now. Were another one to fail, SLURM might end
                # the job before that is done.
                return
            if end.code:
                raise

    def checkpoint(self, command: Sequence[str]) -> Any:
        """What submitit puts into the queue for a run that goes on later."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, resuming(command))


def resuming(command: Sequence[str]) -> list[str]:
    """The same command with --resume."""
    script, *rest = command
    return [script, *(["--resume"] if "--resume" not in rest else []), *rest]


def submit(options: argparse.Namespace) -> Any:
    """Put a command into the queue; submitit's job."""
    from submitit import AutoExecutor

    executor = AutoExecutor(
        folder=options.job_dir / "%j",
        cluster=options.cluster,
        slurm_max_num_timeout=MAX_TIMEOUTS,
    )
    executor.update_parameters(
        name="yolor_d2",
        nodes=options.nodes,
        gpus_per_node=options.gpus,
        tasks_per_node=max(options.gpus, 1) if options.cluster == "slurm" else 1,
        cpus_per_task=options.cpus,
        timeout_min=options.timeout,
        slurm_partition=options.partition,
        slurm_constraint=options.constraint,
        slurm_comment=options.comment,
        slurm_signal_delay_s=SECONDS_TO_SAVE,
    )
    return executor.submit(Job(), [str(options.script), *options.arguments])


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit one job; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partition", help="SLURM's")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs, and processes, of each machine")
    parser.add_argument("--cpus", type=int, default=8, help="CPU cores of each process")
    parser.add_argument("--timeout", type=int, default=60, help="minutes until it is requeued")
    parser.add_argument("--constraint", help="SLURM's: features that the machines must have")
    parser.add_argument("--comment", help="SLURM's: shown beside the job")
    parser.add_argument("--job-dir", type=Path, default=Path("jobs"), help="for the logs")
    parser.add_argument(
        "--cluster", choices=["slurm", "local"], default="slurm", help="local: try it here and now"
    )
    parser.add_argument("script", type=Path, help="train_net.py, or another script that trains")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    options = parser.parse_args(arguments)
    if not options.script.is_file():
        print(f"slurm_train: {options.script}: no such script", file=sys.stderr)
        return 2
    try:
        job = submit(options)
    except ImportError:
        print("slurm_train: needs submitit: pip install 'yolor_d2[slurm]'", file=sys.stderr)
        return 2
    except (OSError, ValueError, RuntimeError) as error:  # among them: there is no sbatch
        print(f"slurm_train: {error}", file=sys.stderr)
        return 2
    print(f"job {job.job_id}: {job.paths.stdout}, {job.paths.stderr}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
