"""Checkpoints that a run folder keeps, and the one to resume from."""

import logging
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.errors import CheckpointError, DiskError, OutputError

from .faults import content, exit_code, in_fork, latest_iteration


def names(folder: RunFolder) -> list[str]:
    """Names of the checkpoints, without checksum files."""
    return sorted(path.name for path in folder.path.glob("*.pth"))


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_names_are_those_of_detectron2(folder: RunFolder) -> None:
    """After 1,000 steps, the last finished step is number 999."""
    path = folder.save(content(999), 999)

    assert path == folder.path / "model_0000999.pth"
    assert (folder.path / "last_checkpoint").read_text() == "model_0000999.pth"
    assert folder.save(content(12345678), 12345678).name == "model_12345678.pth"


@pytest.mark.parametrize("keep", [2, 3])
def test_last_checkpoints_are_kept(tmp_path: Path, keep: int) -> None:
    folder = RunFolder(tmp_path, keep=keep)
    for iteration in range(9, 60, 10):
        folder.save(content(iteration), iteration)

    assert names(folder) == [f"model_{i:07d}.pth" for i in range(9, 60, 10)][-keep:]
    assert len(list(tmp_path.glob("*.sha256"))) == keep
    assert latest_iteration(folder) == 59


def test_checkpoints_are_ordered_by_number(folder: RunFolder) -> None:
    folder.save(content(9_999_999), 9_999_999)
    folder.save(content(10_000_000), 10_000_000)
    assert latest_iteration(folder) == 10_000_000


def test_keep_must_be_at_least_two(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SOLVER\.CHECKPOINT_KEEP is 1; it must be at least 2"):
        RunFolder(tmp_path, keep=1)


def test_named_checkpoints_are_kept(folder: RunFolder) -> None:
    """A run is not resumed from the best checkpoint."""
    folder.save(content(9), 9)
    folder.save_as(content(7), "model_best")
    folder.save_as(content(9), "model_final")
    (folder.path / "model_mine.pth").write_bytes(b"mine")
    for iteration in (19, 29, 39):
        folder.save(content(iteration), iteration)

    regular = ["model_0000029.pth", "model_0000039.pth"]
    assert names(folder) == [*regular, "model_best.pth", "model_final.pth", "model_mine.pth"]
    assert latest_iteration(folder) == 39
    assert (folder.path / "last_checkpoint").read_text() == "model_0000039.pth"


def test_same_step_twice(folder: RunFolder) -> None:
    folder.save(content(9), 9)
    folder.save({**content(9), "hooks": {"judged": 10}}, 9)
    found = folder.latest()
    assert found is not None
    assert found[1]["hooks"] == {"judged": 10}


def test_no_checkpoint(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).latest() is None
    assert RunFolder(tmp_path / "absent").latest() is None


def test_resume_from_final_checkpoint(folder: RunFolder) -> None:
    folder.save_as(content(99), "model_final")
    found = folder.latest()
    assert found is not None
    assert (found[0].name, found[1]["iteration"]) == ("model_final.pth", 100)


def test_damaged_checkpoint_is_skipped(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    for iteration in (9, 19):
        folder.save(content(iteration), iteration)
    damage(folder.path / "model_0000019.pth")

    assert latest_iteration(folder) == 9
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (
            logging.WARNING,
            f"{folder.path}/model_0000019.pth: damaged, its SHA-256 is not that in "
            "model_0000019.pth.sha256; trying the previous checkpoint",
        )
    ]


def test_damaged_checkpoint_does_not_block_the_next(folder: RunFolder) -> None:
    """It has a higher number than later checkpoints, but must not be the newest."""
    for iteration in (9, 19):
        folder.save(content(iteration), iteration)
    damage(folder.path / "model_0000019.pth")
    folder.save(content(12), 12)

    assert names(folder) == ["model_0000009.pth", "model_0000012.pth"]
    assert (folder.path / "model_0000019.pth.aside").exists()
    assert (folder.path / "model_0000019.pth.sha256.aside").exists()
    assert latest_iteration(folder) == 12


def test_run_is_never_restarted_by_mistake(folder: RunFolder) -> None:
    for iteration in (9, 19):
        damage(folder.save(content(iteration), iteration))
    with pytest.raises(CheckpointError, match=r"every checkpoint is damaged: model_0000019\.pth, "):
        folder.latest()


def test_newer_version_is_not_reported_as_damaged(folder: RunFolder, monkeypatch) -> None:
    folder.save(content(9), 9)
    monkeypatch.setattr("yolor_d2.checkpoint.saving.FORMAT", 2)
    folder.save(content(19), 19)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="newer version"):
        folder.latest()


def test_leftovers_of_a_kill_are_removed_at_the_next_save(folder: RunFolder) -> None:
    kept = folder.path / ".bad_files.txt.tmp"  # of another writer
    for name in (".model_0000009.pth.tmp", ".model_0000009.pth.sha256.tmp", kept.name):
        (folder.path / name).write_text("half")
    (folder.path / "model_0000009.pth.sha256").write_text("of a file that never came")
    folder.latest()  # reading changes nothing
    assert len(list(folder.path.iterdir())) == 4

    folder.save(content(19), 19)

    expected = {kept.name, "last_checkpoint", "model_0000019.pth", "model_0000019.pth.sha256"}
    assert {path.name for path in folder.path.iterdir()} == expected


class TestCheckWritable:
    def test_a_folder_is_made_and_left_empty(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "a/b")
        folder.check_writable()
        assert list(folder.path.iterdir()) == []

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        with pytest.raises(OutputError, match=r"a: is a file, not a folder$"):
            RunFolder(tmp_path / "a").check_writable()
        with pytest.raises(CheckpointError, match=r"a/b: cannot be written: Not a directory$"):
            RunFolder(tmp_path / "a/b").check_writable()

    def test_a_read_only_folder(self) -> None:
        with pytest.raises(CheckpointError, match=r"^/proc/1/yolor: cannot be written: \w+"):
            RunFolder("/proc/1/yolor").check_writable()


class TestCheckSpace:
    """A checkpoint is written before an older one is removed."""

    @pytest.mark.parametrize(
        ("run", "number"),
        [
            ({"saves": 9}, 3),  # two regular ones, and the next or model_final.pth
            ({"saves": 9, "keeps_best": True}, 4),
            ({"saves": 1}, 2),
        ],
    )
    def test_number_of_checkpoints(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: dict[str, Any], number: int
    ) -> None:
        """The required space is that of the checkpoints that exist at the same time."""
        folder = RunFolder(tmp_path)
        most = 0

        def save(data: Any, path: Path) -> None:
            nonlocal most
            path.write_bytes(bytes(1000))  # the one that it replaces is removed afterwards
            replaced = path.name == "model_best.pth" and best_exists
            most = max(most, len(list(tmp_path.glob("*.pth"))) + replaced)

        monkeypatch.setattr("yolor_d2.checkpoint.run_folder.save_checkpoint", save)
        for iteration in range(run["saves"]):
            folder.save({}, iteration)
            best_exists = iteration > 0
            if run.get("keeps_best"):
                folder.save_as({}, "model_best")
        folder.save_as({}, "model_final")
        assert most == number

        for file in tmp_path.iterdir():
            file.unlink()
        free_space(monkeypatch, number * 1000)
        folder.check_space(1000, **run)
        free_space(monkeypatch, number * 1000 - 1)
        with pytest.raises(DiskError, match=f"{number} of them take"):
            folder.check_space(1000, **run)

    def test_message(self, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        free_space(monkeypatch, 100_000_000)
        message = (
            r"has 100 MB of space for checkpoints, but 3 of them take 132 MB: free some space, or "
            r"choose another OUTPUT_DIR$"
        )
        with pytest.raises(DiskError, match=message):
            folder.check_space(44_000_000, saves=9)

    def test_a_resumed_run_replaces_its_checkpoints(
        self, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder.path / "model_0000009.pth").write_bytes(bytes(1000))
        (folder.path / "model_best.pth").write_bytes(bytes(1000))
        (folder.path / "model_final.pth").write_bytes(bytes(1000))  # stays until the end
        free_space(monkeypatch, 2000)
        folder.check_space(1000, saves=9, keeps_best=True)
        free_space(monkeypatch, 1999)
        with pytest.raises(DiskError):
            folder.check_space(1000, saves=9, keeps_best=True)


def free_space(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    usage = namedtuple("usage", "total used free")(10**10, 0, size)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


class TestLock:
    """Processes that use the same folder."""

    def test_two_runs(self, folder: RunFolder) -> None:
        reader, writer = os.pipe()
        child = in_fork(lock_and_wait, folder, writer)
        owner = rf"process {child} on .+"
        message = rf"^{folder.path}: another run writes its checkpoints here \({owner}\)$"
        try:
            assert os.read(reader, 20) == b"locked"
            with pytest.raises(OutputError, match=message):
                folder.lock()
        finally:
            os.kill(child, signal.SIGKILL)
        assert exit_code(child) == -signal.SIGKILL
        folder.lock()
        folder.unlock()

    def test_after_it_is_unlocked(self, folder: RunFolder) -> None:
        folder.lock()
        assert exit_code(in_fork(RunFolder(folder.path).lock)) == 1
        folder.unlock()
        assert exit_code(in_fork(RunFolder(folder.path).lock)) == 0

    def test_a_killed_run_with_living_workers(self, folder: RunFolder) -> None:
        reader, writer = os.pipe()
        child = in_fork(lock_and_die, folder, writer)
        worker = int(os.read(reader, 20))
        try:
            assert exit_code(child) == -signal.SIGKILL
            folder.lock()
            folder.unlock()
        finally:
            os.kill(worker, signal.SIGKILL)  # fails if the worker has ended

    def test_a_system_without_locks(self, folder: RunFolder, monkeypatch, caplog) -> None:
        def refuse(file: object, how: int) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr("fcntl.lockf", refuse)
        folder.lock()
        assert "cannot be locked against other runs: Operation not supported" in caplog.text


def lock_and_wait(folder: RunFolder, writer: int) -> None:
    folder.lock()
    os.write(writer, b"locked")
    signal.pause()


def lock_and_die(folder: RunFolder, writer: int) -> None:
    folder.lock()
    worker = in_fork(signal.pause)
    os.write(writer, str(worker).encode())
    os.kill(os.getpid(), signal.SIGKILL)


def test_other_files_are_not_checkpoints(folder: RunFolder) -> None:
    save_checkpoint(content(5), folder.path / "model_5.pth")
    save_checkpoint(content(5), folder.path / "old_model_0000005.pth")
    assert folder.latest() is None
