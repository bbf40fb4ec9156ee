"""Programs that tests start, signal and wait for."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.engine import launch
from torch import distributed

PATIENCE = 200.0  # seconds, for a machine with other things to do

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@contextmanager
def started(
    command: Sequence[str], *, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program on the CPU, with a process group of its own; none of it is left afterwards."""
    with subprocess.Popen(
        command,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **(variables or {})},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a program that ends, and its error output."""
    errors = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, errors


def wait_for(*paths: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until files are there, and written; by a process that may not end before."""
    end = time.monotonic() + PATIENCE
    while not all(path.exists() and path.stat().st_size for path in paths):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended before: {process.communicate()[1]}")
        assert time.monotonic() < end, f"not there: {[p.name for p in paths if not p.exists()]}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(*pids: int, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < end, f"still there: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def in_two_processes(function: Callable[..., None], *args: Any) -> None:
    """Call a function, which others can import, in two processes that have met."""
    launch(_leave_in_order, 2, dist_url="auto", args=(function, args))


def _leave_in_order(function: Callable[..., None], args: Sequence[Any]) -> None:
    function(*args)
    distributed.barrier()  # none leaves while another one still talks to it
    distributed.destroy_process_group()
    os._exit(0)  # at the usual end of Python, a thread of PyTorch's aborts at times
