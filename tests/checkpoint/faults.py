"""Checkpoints that are written while the system fails or the process is killed."""

import errno
import io
import itertools
import os
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from yolor_d2 import files
from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.checkpoint.saving import save_checkpoint


class Calls:
    """Counts calls that change the disk; fails at a given one, or from it on."""

    def __init__(self, at: int, act: Callable[[], None], *, lasting: bool) -> None:
        self.at = at
        self.act = act
        self.lasting = lasting
        self.count = 0

    def next(self) -> None:
        number = self.count
        self.count += 1
        if number == self.at or (self.lasting and number > self.at):
            self.act()

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.next()
            return function(*arguments, **options)

        return call

    def open(self, path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode != "wb":
            return open(path, mode, *arguments, **options)
        self.next()
        return io.BufferedWriter(_CountedFile(path, self))


class _CountedFile(io.FileIO):
    def __init__(self, path: Path, calls: Calls) -> None:
        super().__init__(path, "wb")
        self.calls = calls

    def write(self, data: Any) -> int:
        """Write both halves, with a possible failure between them."""
        data = bytes(data)
        half = len(data) // 2
        super().write(data[:half])
        self.calls.next()
        super().write(data[half:])
        return len(data)


@contextmanager
def disturbed(at: int, act: Callable[[], None], *, lasting: bool = False) -> Iterator[Calls]:
    """Replace one of the calls, or all from it on; fsync does nothing."""
    calls = Calls(at, act, lasting=lasting)
    functions = {"fsync": lambda file: None, "replace": os.replace, "unlink": os.unlink}
    with ExitStack() as patches:
        for name, function in functions.items():
            patches.enter_context(mock.patch.object(os, name, calls.of(function)))
        patches.enter_context(mock.patch.object(files, "open", calls.open, create=True))
        yield calls


def fill_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(iteration: int, size: int = 8) -> dict[str, Any]:
    """A checkpoint whose tensors show whether it is complete."""
    weights = torch.full((size,), float(iteration))
    return {"iteration": iteration + 1, "model": {"weight": weights}}


def latest_iteration(folder: RunFolder) -> int:
    """The iteration of the newest checkpoint, which must be complete."""
    found = folder.latest()
    assert found is not None
    path, data = found
    iteration = data["iteration"] - 1
    assert path.name == f"model_{iteration:07d}.pth"
    assert (data["model"]["weight"] == iteration).all()
    return iteration


def used_folders(root: Path) -> Iterator[RunFolder]:
    """A folder with two checkpoints, a best one, one of another run, and an incomplete file."""
    first = RunFolder(root / "first")
    first.check_writable()
    first.save(content(9), 9)
    first.save(content(19), 19)
    first.save_as(content(9), "model_best")
    save_checkpoint(content(99), first.path / "model_0000099.pth")
    (first.path / ".model_0000099.pth.tmp").write_bytes(b"half")
    for number in itertools.count():
        yield RunFolder(shutil.copytree(first.path, root / str(number)))


def in_fork(function: Callable[..., None], *arguments: Any) -> int:
    """Fork a child that only calls a function, like loader workers; return its process id."""
    with warnings.catch_warnings():
        # A warning of Python 3.12 because pytest has threads, which the child does not need.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            function(*arguments)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def exit_code(child: int) -> int:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
