"""One way in for one process, torchrun, SLURM, and detectron2's flags."""

import logging
import multiprocessing
import os
import signal
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from detectron2.engine import launch as spawn_and_join
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from ...compat import create_local_process_group
from . import signals, slurm

logger = logging.getLogger(__name__)

# For processes to meet, and for any of them to wait for the others later on.
TIMEOUT = timedelta(minutes=30)

WRONG_USE = 2  # exit code: what was asked for cannot be done

SIGNALLED = 128  # exit code: this, and the number of a signal that ended the process

Main = Callable[[Namespace], Any]


def launch(main: Main, args: Namespace, *, timeout: timedelta = TIMEOUT) -> None:
    """Call `main(args)` in each process of the run.

    Processes that torchrun or else srun has started find each other; else detectron2's flags say
    how many to start, and one alone is this process.

    Args:
        main: a function that other processes can import.
        args: of `argument_parser`.
        timeout: how long processes wait for each other.

    Raises:
        SystemExit: a process of several failed, or stopped after a signal and has saved
            (`signals.EXIT_SAVED`). One process alone raises what `main` raises.
    """
    try:
        started = started_by_others(args)
        if not started:
            check_gpus(args.num_gpus)
    except ValueError as error:
        logger.error("%s", error)
        raise SystemExit(WRONG_USE) from None
    if started:
        join_group(timeout)
        run(main, args)
    elif args.num_gpus * args.num_machines > 1:
        spawn(main, args, timeout)
    else:
        main(args)


def started_by_others(args: Namespace) -> bool:
    """Whether a launcher has started this process; the environment is then as torchrun sets it."""
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys():
        return True
    if slurm.is_task(args, os.environ):
        os.environ.update(slurm.group_variables(os.environ))
        return True
    return False


def check_gpus(wanted: int) -> None:
    """Refuse more processes than GPUs; without any GPU, processes share the CPU."""
    available = torch.cuda.device_count()
    if 0 < available < wanted:
        raise ValueError(f"--num-gpus {wanted}: this machine has {available} GPUs")


def join_group(timeout: timedelta) -> None:
    """Meet the other processes that the environment tells of."""
    # A launcher may die of a signal that it does not pass on, SIGUSR2 for torchrun.
    _prctl_pr_set_pdeathsig(signal.SIGTERM)
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        # Launchers may show each process its own GPU only.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    try:
        distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=timeout)
    except RuntimeError as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise SystemExit(
            f"{os.environ['WORLD_SIZE']} processes should meet at {address}: "
            f"{str(error).splitlines()[0]} Has each been started, and can it reach that address?"
        ) from error
    create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    comm.synchronize()


def run(main: Main, args: Namespace) -> None:
    """Call `main` in a process of several, and leave them in order."""
    try:
        main(args)
        comm.synchronize()
    except KeyboardInterrupt:
        # torch.multiprocessing takes a KeyboardInterrupt for success.
        raise SystemExit(SIGNALLED + signal.SIGINT) from None
    except signals.Interrupted:
        signals.ignore()
        distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def spawn(main: Main, args: Namespace, timeout: timedelta) -> None:
    """Let detectron2 start processes as its flags say, and end as they do."""
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
                raise SystemExit(SIGNALLED + signal.Signals[name]) from None
            # A process that ended by itself has said why.
            raise SystemExit(error.exit_code if error.exit_code > 0 else str(error)) from None


def pass_on(signum: int) -> None:
    """Leave it to the processes that were started what a signal means."""
    # SIGINT would end one that is not ready by a KeyboardInterrupt: see `run`.
    passed = signal.SIGTERM if signum == signal.SIGINT else signum
    for child in multiprocessing.active_children():
        os.kill(child.pid, passed)  # type: ignore[arg-type]  # started, so it has one
