"""Helpers to start, signal and wait for processes."""

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

PATIENCE = 200.0  # seconds, sufficient on a busy machine

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@contextmanager
def started(
    command: Sequence[str], *, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on the CPU in its own process group, which is killed at the end."""
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
    """Wait for a program to end; return its exit code and error output."""
    errors = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, errors


def wait_for(*paths: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until files exist and are not empty.

    Args:
        paths: the files.
        process: writes them; it is an error if it ends first.
    """
    end = time.monotonic() + PATIENCE
    while not all(path.exists() and path.stat().st_size for path in paths):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended first: {process.communicate()}")
        assert time.monotonic() < end, f"missing: {[p.name for p in paths if not p.exists()]}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(*pids: int, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < end, f"still running: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def in_two_processes(function: Callable[..., None], *args: Any) -> None:
    """Call an importable function in two processes of a process group."""
    launch(_call_and_exit, 2, dist_url="auto", args=(function, args))


def _call_and_exit(function: Callable[..., None], args: Sequence[Any]) -> None:
    function(*args)
    distributed.barrier()  # no process exits while another still communicates with it
    distributed.destroy_process_group()
    os._exit(0)  # at a normal exit, a thread of PyTorch sometimes aborts
