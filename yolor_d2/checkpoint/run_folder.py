"""The checkpoints in the output folder of a run: saving, finding the newest, removing old ones."""

import fcntl
import logging
import os
import re
import shutil
import socket
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigError, DamagedError, DiskError, OutputError
from ..files import write_text
from .saving import Content, load_checkpoint, save_checkpoint, sidecar_path, unwritable

logger = logging.getLogger(__name__)

REGULAR = re.compile(r"model_(\d{7,})\.pth")
FINAL, BEST = "model_final.pth", "model_best.pth"
TAG = "last_checkpoint"
RUN_FILES = (
    *("model_[0-9]*.pth*", "model_final.pth*", "model_best.pth*", "last_checkpoint"),
    *("training.jsonl", "metrics.csv", "events.out.tfevents.*", "nonfinite_*.json"),
)
LEFTOVERS = (".model_*.tmp", f".{TAG}*.tmp")


class RunFolder:
    """An output folder, whose checkpoints are written by one process.

    Regular checkpoints are named as in detectron2, by the last finished step counted from 0:
    model_0000999.pth after 1,000 steps. At any time the folder has the newest one or the one
    before. The last `keep` are kept, and all checkpoints with other names.

    Args:
        path: of the folder.
        keep: number of regular checkpoints to keep, at least 2, because one can be damaged.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int = 2) -> None:
        if keep < 2:
            raise ConfigError(f"SOLVER.CHECKPOINT_KEEP is {keep}; it must be at least 2")
        self.path = Path(path)
        self.keep = keep
        self._lock: BinaryIO | None = None

    def check_writable(self) -> None:
        """Make the folder.

        Raises:
            CheckpointError: the folder is not writable.
        """
        trial = self.path / ".trial"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(trial, "", sync=True)
            trial.unlink()
        except FileExistsError:
            raise OutputError(f"{self.path}: is a file, not a folder") from None
        except OSError as error:
            raise unwritable(self.path, error) from None

    def check_space(self, checkpoint_bytes: int, *, saves: int, keeps_best: bool = False) -> None:
        """Check that the checkpoints of a run fit on the disk.

        A new checkpoint is written before an old one is removed. The space of regular checkpoints
        and model_best.pth in the folder counts as free: the run replaces them.

        Args:
            checkpoint_bytes: size of a checkpoint.
            saves: how many regular checkpoints the run is going to save.
            keeps_best: whether it saves model_best.pth too.

        Raises:
            CheckpointError: there is too little space.
        """
        number = min(saves, self.keep) + 1 + keeps_best  # 1: model_final.pth or a regular one
        needed = number * checkpoint_bytes
        own = (*self.path.glob("model_[0-9]*.pth"), self.path / BEST)
        used = sum(path.stat().st_size for path in own if path.is_file())
        free = shutil.disk_usage(self.path).free + used
        if free < needed:
            raise DiskError(
                f"{self.path}: has {free / 1e6:,.0f} MB of space for checkpoints, but {number} of "
                f"them take {needed / 1e6:,.0f} MB: free some space, or choose another OUTPUT_DIR"
            )

    def lock(self) -> None:
        """Prevent other processes from writing checkpoints here until this one ends or unlocks.

        The folder must exist. The lock belongs to the process (POSIX) and is not inherited by its
        loader workers, which can outlive it for some seconds: a run can be resumed at once.
        """
        path = self.path / ".lock"
        try:
            file = open(path, "a+b", buffering=0)  # noqa: SIM115  stays open
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read(100).decode(errors="replace").strip() or "another process"
            file.close()
            raise OutputError(
                f"{self.path}: another run writes its checkpoints here ({owner})"
            ) from None
        except OSError as error:  # from file systems without locks
            logger.warning("%s: cannot be locked against other runs: %s", path, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        self._lock = file

    def unlock(self) -> None:
        """Allow other processes to write here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def save(self, data: Content, iteration: int) -> Path:
        """Write a regular checkpoint, then remove the oldest ones.

        Args:
            data: for `save_checkpoint`.
            iteration: the last finished step, counted from 0.

        Raises:
            CheckpointError: it cannot be written; earlier ones are unchanged.
        """
        self._clear_leftovers()
        try:
            self._set_aside_after(iteration)
            path = self.save_as(data, f"model_{iteration:07d}")
            write_text(self.path / TAG, path.name, sync=True)
        except OSError as error:
            raise unwritable(self.path, error) from None
        for old in self.regular()[: -self.keep]:
            _remove(old)
            _remove(sidecar_path(old))
        return path

    def save_as(self, data: Content, name: str) -> Path:
        """Write a checkpoint that is kept, such as "model_best"."""
        path = self.path / f"{name}.pth"
        save_checkpoint(data, path)
        return path

    def latest(self) -> tuple[Path, Content] | None:
        """The newest intact checkpoint and its content; None if the folder has none.

        It is a regular one, or model_final.pth if no regular one is intact.

        Raises:
            CheckpointError: all are damaged, or the newest is of a newer version.
        """
        final = self.path / FINAL
        paths = self.regular()[::-1] + ([final] if final.exists() else [])
        for path in paths:
            try:
                return path, load_checkpoint(path)
            except DamagedError as error:
                logger.warning("%s; trying the previous checkpoint", error)
        if paths:
            names = ", ".join(path.name for path in paths)
            raise DamagedError(f"{self.path}: every checkpoint is damaged: {names}")
        return None

    def regular(self) -> list[Path]:
        """The regular checkpoints, oldest first."""
        found = [(m, path) for path in self.path.glob("*") if (m := REGULAR.fullmatch(path.name))]
        return [path for _, path in sorted((int(match[1]), path) for match, path in found)]

    def leftovers(self) -> list[Path]:
        """Files of an earlier run that a new run would mix with its own."""
        return [path for pattern in RUN_FILES for path in self.path.glob(pattern)]

    def clear(self) -> None:
        """Remove the files of an earlier run."""
        for path in self.leftovers():
            path.unlink()

    def _clear_leftovers(self) -> None:
        """Remove files of a killed process: incomplete ones, and checksums without their file."""
        for pattern in LEFTOVERS:
            for path in self.path.glob(pattern):
                _remove(path)
        for path in self.path.glob("model_*.pth.sha256"):
            if not path.with_suffix("").exists():
                _remove(path)

    def _set_aside_after(self, iteration: int) -> None:
        """Rename checkpoints of later steps, so that the highest number is the newest.

        They are damaged ones that were not resumed from, or from another run.
        """
        for path in self.regular():
            if int(path.stem.removeprefix("model_")) > iteration:
                logger.warning("%s is of a later step: renamed to %s.aside", path, path.name)
                for file in (path, sidecar_path(path)):
                    if file.exists():
                        os.replace(file, f"{file}.aside")


def _remove(path: Path) -> None:
    """Remove a file; a failure is a warning."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s: cannot be removed: %s", path, error.strerror)
