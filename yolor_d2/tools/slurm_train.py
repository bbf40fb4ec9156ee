"""Train as a SLURM job that saves and requeues itself when it times out or is preempted.

    python -m yolor_d2.tools.slurm_train --partition gpu --nodes 2 --gpus 8 --timeout 1440 \\
        train_net.py --config-file configs/COCO/yolor_elan_mtl.yaml OUTPUT_DIR output/run

Put the script and its arguments after the options. SLURM starts one process per GPU, so omit
--num-gpus. Requires submitit. Exit code 2: the job cannot be submitted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..engine.launch.submit import Resources, submit
from ..errors import OptionError, PackageError
from .errors import one_line_errors


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partition", help="SLURM partition")
    parser.add_argument("--nodes", type=int, default=1, help="number of machines (1)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs and processes per machine (1)")
    parser.add_argument("--cpus", type=int, default=8, help="CPU cores per process (8)")
    parser.add_argument(
        "--timeout", type=int, default=60, help="minutes until the job is requeued (60)"
    )
    parser.add_argument("--constraint", help="required features of SLURM nodes")
    parser.add_argument("--comment", help="comment of the SLURM job")
    parser.add_argument("--job-dir", type=Path, default=Path("jobs"), help="log folder (jobs)")
    parser.add_argument(
        "--cluster", choices=["slurm", "local"], default="slurm", help="local: run on this machine"
    )
    parser.add_argument("script", type=Path, help="train_net.py, or another training script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Submit one job; returns the exit code."""
    args = make_parser().parse_args(arguments)
    if not args.script.is_file():
        raise OptionError(f"{args.script}: no such script")
    names = ("nodes", "gpus", "cpus", "timeout", "partition", "constraint", "comment")
    resources = Resources(**{name: getattr(args, name) for name in names})
    command = [str(args.script), *args.arguments]
    try:
        job = submit(command, resources, folder=args.job_dir, cluster=args.cluster)
    except ImportError:
        raise PackageError("needs submitit: pip install 'yolor_d2[slurm]'") from None
    except RuntimeError as error:  # raised by submitit without sbatch
        raise PackageError(str(error)) from None
    print(f"job {job.job_id}: {job.paths.stdout}, {job.paths.stderr}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
