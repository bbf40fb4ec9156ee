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
    """A data set whose samples are the process that made them."""

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
    """From a process that is not their parent, as all signals of others are."""
    subprocess.run(["kill", f"-{signum:d}", *map(str, pids)], check=True)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_of_others_changes_nothing(signum):
    batches, pids = start_workers()
    send(signum, pids)
    for _ in range(10):
        assert int(next(batches)) in pids
    del batches
    wait_until_gone(*pids, seconds=20)


def test_the_main_process_ends_them_even_in_the_midst_of_work():
    batches, pids = start_workers()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    wait_until_gone(*pids, seconds=20)
    del batches


def run_until_killed(path):
    _, pids = start_workers()
    path.write_text(" ".join(map(str, pids)))
    time.sleep(60)


def test_they_do_not_outlive_a_killed_main_process(tmp_path):
    path = tmp_path / "pids"
    main = multiprocessing.get_context("fork").Process(target=run_until_killed, args=(path,))
    main.start()
    wait_for(path)
    pids = [int(pid) for pid in path.read_text().split()]
    assert all(is_alive(pid) for pid in pids)
    main.kill()
    main.join()
    wait_until_gone(*pids, seconds=20)  # PyTorch's workers look every five
