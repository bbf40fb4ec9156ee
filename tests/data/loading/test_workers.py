"""Worker processes end only on signals of their parent."""

import multiprocessing
import os
import signal
import subprocess
import time

import pytest
from torch.utils.data import DataLoader

from tests.processes import is_alive, wait_for, wait_until_gone
from yolor_d2.data.loading.workers import prepare_worker

ENDLESS = 10**9


class ProcessIds:
    """A data set whose samples are the worker's process id."""

    def __len__(self):
        return ENDLESS

    def __getitem__(self, index):
        time.sleep(0.001)
        return os.getpid()


def start_workers():
    loader = DataLoader(ProcessIds(), num_workers=2, worker_init_fn=prepare_worker)
    batches = iter(loader)
    return batches, {int(next(batches)) for _ in range(2)}


def send(signum, pids):
    """Send a signal from a process that is not their parent."""
    subprocess.run(["kill", f"-{signum:d}", *map(str, pids)], check=True)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signals_of_other_processes_are_ignored(signum):
    batches, pids = start_workers()
    send(signum, pids)
    for _ in range(10):
        assert int(next(batches)) in pids
    del batches
    wait_until_gone(*pids, seconds=20)


def test_parent_ends_busy_workers():
    batches, pids = start_workers()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    wait_until_gone(*pids, seconds=20)
    del batches


def run_until_killed(path):
    _, pids = start_workers()
    path.write_text(" ".join(map(str, pids)))
    time.sleep(60)


def test_workers_end_with_a_killed_parent(tmp_path):
    path = tmp_path / "pids"
    main = multiprocessing.get_context("fork").Process(target=run_until_killed, args=(path,))
    main.start()
    wait_for(path)
    pids = [int(pid) for pid in path.read_text().split()]
    assert all(is_alive(pid) for pid in pids)
    main.kill()
    main.join()
    wait_until_gone(*pids, seconds=20)  # PyTorch's workers check every five
