"""Program for the tests of launch: `program.py [flags] OUT FOLDER DO WHAT`."""

import json
import os
import signal
import time
from argparse import Namespace
from pathlib import Path

import torch
from detectron2.utils import comm
from torch import distributed

from yolor_d2.engine.launch import signals
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.launch.preflight import check_cluster
from yolor_d2.engine.launch.processes import launch, local_rank

ROUNDS = 3  # signals that "rounds" wait for


def main(args: Namespace) -> None:
    folder, what = Path(args.opts[1]), args.opts[3]
    rank = comm.get_rank()
    total = summed(rank + 1)
    facts = [rank, comm.get_world_size(), local_rank(), total]
    (folder / f"facts{rank}").write_text(json.dumps([*facts, os.getpid()]))
    globals()[what](folder, rank)


def finish(folder: Path, rank: int) -> None:
    pass


def wait(folder: Path, rank: int) -> None:
    """Wait without watching signals, like a run during its preparation."""
    time.sleep(60)


def train(
    folder: Path, rank: int, *, part: int = 0, save_seconds: float = 0.0, all_signaled: bool = False
) -> None:
    with signals.watching():
        (folder / f"ready{rank}_{part}").write_text("ready")
        while not summed(signals.requested() is not None):
            time.sleep(0.01)  # a step
        while all_signaled and signals.requested() is None:
            time.sleep(0.01)  # its signal must not arrive between two parts
        saved = time.monotonic() + save_seconds
        while time.monotonic() < saved:  # a signal in another thread does not wake this one
            time.sleep(0.05)
        (folder / f"saved{rank}_{part}").write_text(str(signals.requested()))
        comm.synchronize()
        raise signals.Interrupted


def rounds(folder: Path, rank: int) -> None:
    """Be interrupted several times; the last interrupt ends the process."""
    for part in range(ROUNDS - 1):
        try:
            train(folder, rank, part=part, all_signaled=True)
        except signals.Interrupted:
            comm.synchronize()
    train(folder, rank, part=ROUNDS - 1)


def save_for_long(folder: Path, rank: int) -> None:
    train(folder, rank, save_seconds=30)


def fail(folder: Path, rank: int) -> None:
    if rank == 1:
        raise RuntimeError("the reason")
    wait(folder, rank)


def refuse(folder: Path, rank: int) -> None:
    raise SystemExit(2)


def die(folder: Path, rank: int) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    wait(folder, rank)


def check(folder: Path, rank: int) -> None:
    """Check the cluster twice: with equal and with different configurations."""
    good = check_cluster(config_text="equal", output_dir=str(folder))
    bad = check_cluster(config_text=f"of {rank}", output_dir=str(folder))
    (folder / f"checked{rank}").write_text(json.dumps([good, bad]))


def summed(value: float) -> float:
    total = torch.tensor(float(value))
    if comm.get_world_size() > 1:
        distributed.all_reduce(total)
    return total.item()


if __name__ == "__main__":
    launch(main, argument_parser().parse_args())
