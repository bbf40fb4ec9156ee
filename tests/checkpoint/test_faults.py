"""No run is lost by a fault or kill at any call, or by kills at random times."""

import itertools
import os
import random
import resource
import signal
import time
from pathlib import Path
from unittest import mock

import pytest

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.checkpoint.saving import load_checkpoint
from yolor_d2.errors import CheckpointError

from .faults import (
    content,
    disturbed,
    exit_code,
    fill_disk,
    in_fork,
    latest_iteration,
    used_folders,
)

KILLED = 9


def check_after_fault(folder: RunFolder) -> int:
    """The folder is as before or after the save, and later saves work."""
    assert load_checkpoint(folder.path / "model_best.pth")["iteration"] == 10
    # Files of another run stay until the next save.
    newest = max(int(path.stem[6:]) for path in folder.regular())
    iteration = 99 if newest == 99 else latest_iteration(folder)
    assert iteration in (19, 29, 99)
    with mock.patch.object(os, "fsync"):
        folder.save(content(39), 39)
    assert latest_iteration(folder) == 39
    before = 29 if iteration == 29 else 19
    expected = {"last_checkpoint", "model_best.pth", "model_best.pth.sha256"}
    for name in (f"model_{before:07d}.pth", "model_0000039.pth"):
        expected |= {name, f"{name}.sha256"}
    names = {path.name for path in folder.path.iterdir() if path.suffix != ".aside"}
    assert names == expected
    assert (folder.path / "last_checkpoint").read_text() == "model_0000039.pth"
    return iteration


@pytest.mark.parametrize("lasting", [False, True])
def test_full_disk_at_any_call(tmp_path: Path, lasting: bool) -> None:
    outcomes = []
    for at, folder in enumerate(used_folders(tmp_path)):
        message = None
        with disturbed(at, fill_disk, lasting=lasting) as calls:
            try:
                folder.save(content(29), 29)
            except CheckpointError as error:
                message = str(error)
        if calls.count <= at:
            break
        if message is not None:
            assert message.startswith(str(folder.path))
            assert message.endswith("cannot be written: No space left on device")
        left = list(folder.path.glob(".model_*29*.tmp"))
        assert not left or lasting
        outcomes.append((check_after_fault(folder), message is None))
    assert len(outcomes) > 15
    # Only removals can fail silently.
    assert {(19, False), (29, False), (29, True)} <= set(outcomes)
    assert (19, True) not in outcomes


@pytest.mark.parametrize("with_checksum", [True, False])
def test_full_disk_while_best_is_replaced(tmp_path: Path, with_checksum: bool) -> None:
    """Also of a file without a checksum."""
    outcomes = set()
    for at, folder in enumerate(used_folders(tmp_path)):
        if not with_checksum:
            (folder.path / "model_best.pth.sha256").unlink()
        with disturbed(at, fill_disk) as calls:
            try:
                folder.save_as(content(19), "model_best")
            except CheckpointError:
                outcomes.add(load_checkpoint(folder.path / "model_best.pth")["iteration"])
        if calls.count <= at:
            break
    assert outcomes == {10, 20}
    assert len((folder.path / "model_best.pth.sha256").read_text().splitlines()) == 1


def test_kill_at_any_call(tmp_path: Path) -> None:
    outcomes = []
    for at, folder in enumerate(used_folders(tmp_path)):
        code = exit_code(in_fork(save_and_die, folder, at))
        if code != KILLED:
            assert code == 0
            break
        outcomes.append(check_after_fault(folder))
    assert len(outcomes) > 15
    assert set(outcomes) == {19, 29, 99}


def save_and_die(folder: RunFolder, at: int) -> None:
    with disturbed(at, lambda: os._exit(KILLED)):
        folder.save(content(29), 29)


def test_kill_while_best_is_replaced(tmp_path: Path) -> None:
    found = set()
    for at, folder in enumerate(used_folders(tmp_path)):
        code = exit_code(in_fork(replace_and_die, folder, at))
        if code != KILLED:
            assert code == 0
            break
        found.add(load_checkpoint(folder.path / "model_best.pth")["iteration"])
    assert found == {10, 20}


def replace_and_die(folder: RunFolder, at: int) -> None:
    with disturbed(at, lambda: os._exit(KILLED)):
        folder.save_as(content(19), "model_best")


@pytest.mark.parametrize("size", [1_000, 5_000_000], ids=["small", "20 MB"])
def test_three_kills_at_random_times(tmp_path: Path, size: int) -> None:
    kill_at_random(tmp_path, 3, size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000, 5_000_000], ids=["small", "20 MB"])
def test_fifty_kills_at_random_times(tmp_path: Path, size: int) -> None:
    kill_at_random(tmp_path, 50, size)


def kill_at_random(path: Path, kills: int, size: int) -> None:
    rng = random.Random(0)
    folder = RunFolder(path)
    interrupted = 0
    for _ in range(kills):
        reader, writer = os.pipe()
        child = in_fork(save_forever, folder, size, writer)
        os.close(writer)
        reports = os.read(reader, 8)  # the child has started
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(reader, 8000):
            reports += more
        os.close(reader)
        interrupted += bool(list(path.glob(".*.tmp")))
        # Checkpoints reported as saved exist.
        assert latest_iteration(folder) >= int.from_bytes(reports[-8:], "little")
        assert len(folder.regular()) <= 3
    assert interrupted or kills < 50


def save_forever(folder: RunFolder, size: int, writer: int) -> None:
    first = latest_iteration(folder) + 1 if folder.regular() else 0
    for iteration in itertools.count(first):
        folder.save(content(iteration, size), iteration)
        os.write(writer, iteration.to_bytes(8, "little"))


def test_file_size_limit_of_the_system(tmp_path: Path) -> None:
    assert exit_code(in_fork(save_more_than_allowed, tmp_path)) == 0


def save_more_than_allowed(path: Path) -> None:
    folder = RunFolder(path)
    folder.save(content(9), 9)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    with pytest.raises(CheckpointError, match=r"19\.pth: cannot be written: File too large$"):
        folder.save(content(19, 5_000_000), 19)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
