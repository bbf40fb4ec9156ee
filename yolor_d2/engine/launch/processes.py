"""Starting a run in one process, by torchrun, by SLURM, or by detectron2's flags."""

import ctypes
import multiprocessing
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from detectron2.engine import launch as spawn_and_join
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from ...errors import OptionError, line_of, print_error
from . import signals, slurm

TIMEOUT = timedelta(minutes=30)  # to wait for other processes, at the start and later

WRONG_USE = 2  # exit code of a wrong command or configuration

SIGNALED = 128  # exit code: this plus the number of the signal that ended the process

# Variables that torchrun sets.
LAUNCHER_VARIABLES = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>

Main = Callable[[Namespace], Any]


def launch(main: Main, args: Namespace, *, timeout: timedelta = TIMEOUT) -> None:
    """Call `main(args)` in each process of the run.

    Processes started by torchrun or srun join a group. Otherwise detectron2's flags give the number
    of processes to start; a single one is the current process.

    Args:
        main: a function that other processes can import.
        args: parsed by `argument_parser`.
        timeout: how long processes wait for each other.

    Raises:
        SystemExit: one of several processes failed, or the run was saved and stopped after a signal
            (`signals.EXIT_SAVED`). A single process raises the exceptions of `main`.
    """
    try:
        started = started_by_others(args)
        if not started:
            check_gpus(args.num_gpus)
    except ValueError as error:
        print_error(error)
        raise SystemExit(WRONG_USE) from None
    if started:
        join_group(timeout)
        run(main, args)
    elif args.num_gpus * args.num_machines > 1:
        spawn(main, args, timeout)
    else:
        main(args)


def started_by_others(args: Namespace) -> bool:
    """Whether torchrun or srun started this process; afterwards torchrun's variables are set."""
    if os.environ.keys() >= LAUNCHER_VARIABLES:
        return True
    if slurm.is_task(args, os.environ):
        os.environ.update(slurm.group_variables(os.environ))
        return True
    return False


def check_gpus(wanted: int) -> None:
    """Refuse more processes than GPUs. Without GPUs, processes share the CPU."""
    available = torch.cuda.device_count()
    if 0 < available < wanted:
        raise OptionError(f"--num-gpus {wanted}: this machine has {available} GPUs")


def join_group(timeout: timedelta) -> None:
    """Join the process group that the environment describes."""
    # A launcher may die of a signal that it does not pass on, as torchrun of SIGUSR2.
    signal_at_death_of_parent(signal.SIGTERM)
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        # Some launchers make only one GPU visible to each process.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    try:
        distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=timeout)
    except RuntimeError as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = OptionError(
            f"{os.environ['WORLD_SIZE']} processes should meet at {address}: "
            f"{str(error).splitlines()[0]} Check that each is started and can reach that address"
        )
        raise SystemExit(line_of(reason)) from error
    comm.synchronize()


def signal_at_death_of_parent(signum: int) -> None:
    """Let Linux send this process a signal when its parent process ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum)


def local_rank() -> int:
    """The number of this process on its machine.

    In detectron2 0.6, comm.get_local_rank works only in processes of its own launcher.
    """
    if os.environ.keys() >= LAUNCHER_VARIABLES:
        return int(os.environ["LOCAL_RANK"])
    return comm.get_local_rank()


def run(main: Main, args: Namespace) -> None:
    """Call `main` in one of several processes, then leave the process group."""
    try:
        main(args)
        comm.synchronize()
    except KeyboardInterrupt:
        # torch.multiprocessing treats a KeyboardInterrupt as success.
        raise SystemExit(SIGNALED + signal.SIGINT) from None
    except signals.Interrupted:
        signals.ignore()
        distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def spawn(main: Main, args: Namespace, timeout: timedelta) -> None:
    """Start processes by detectron2's launcher, and exit with their exit code."""
    with signals.handled_by(pass_on):
        try:
            spawn_and_join(
                run,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(main, args),
                timeout=timeout,
            )
        except ProcessRaisedException as error:
            raise SystemExit(str(error)) from None
        except ProcessExitedException as error:
            if error.exit_code == signals.EXIT_SAVED:
                raise signals.Interrupted from None
            if name := signals.requested():
                raise SystemExit(SIGNALED + signal.Signals[name]) from None
            # A process that exits by itself has logged the reason.
            raise SystemExit(error.exit_code if error.exit_code > 0 else str(error)) from None


def pass_on(signum: int) -> None:
    """Pass a signal on to the processes that were started."""
    # SIGINT would raise KeyboardInterrupt in a process that is not ready: see `run`.
    passed = signal.SIGTERM if signum == signal.SIGINT else signum
    for child in multiprocessing.active_children():
        os.kill(child.pid, passed)  # type: ignore[arg-type]  # started, so it has one
