"""Small runs in processes of their own, which can be disturbed."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.main import main
from yolor_d2.errors import CheckpointError
from yolor_d2.files import write_text
from yolor_d2.model_zoo import load_config
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from ..checkpoint.faults import exit_code, in_fork
from ..engine.test_interruption import HOST, NARROW, ROOT
from ..engine.test_resume import assert_equal
from ..small_runs import SMALL

SETS = ("toy_scenes_train", "toy_scenes_val")
STATE = ("iteration", "model", "ema", "optimizer")
METRICS = ("bbox/", "segm/", "sem_seg/", "panoptic_seg/", "caption/", "validation")
SECONDS = 1800.0  # of a run; it hangs if it takes longer


class Small(NamedTuple):
    """A run of train_net.py.

    Attributes:
        folder: for its results, its configuration and its output on the terminal.
        keys: KEY, VALUE, ... besides those of all small runs.
        flags: of train_net.py.
    """

    folder: Path
    keys: tuple[Any, ...] = ()
    flags: tuple[str, ...] = ()

    def arguments(self, *, resume: bool) -> list[str]:
        config = self.folder.with_suffix(".yaml")
        cfg = load_config("toy/yolor_elan_n_toy.yaml")
        cfg.merge_from_list([*SMALL, *NARROW, *self.keys, "OUTPUT_DIR", str(self.folder)])
        write_text(config, cfg.dump())
        resumed = ["--resume"] if resume else []
        return ["--config-file", str(config), "--deterministic", *self.flags, *resumed]

    def start(
        self, *, resume: bool = False, fork: bool = True, prepare: Callable[[], Any] = bool
    ) -> int:
        """Start in a session of its own; returns the process id.

        Args:
            resume: whether to go on with an earlier run.
            fork: of this process, which saves the imports; otherwise as a user does.
            prepare: called in the new process.
        """
        return in_fork(self._run, self.arguments(resume=resume), fork, prepare)

    def _run(self, arguments: list[str], fork: bool, prepare: Callable[[], Any]) -> None:
        os.setsid()
        # A background process of a script ignores it, and so would its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        terminal = os.open(self.terminal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
        prepare()
        if not fork:
            command = [sys.executable, "-W", "ignore", str(ROOT / "train_net.py"), *arguments]
            environment = {**os.environ, **HOST, "PYTHONPATH": str(ROOT)}
            os.execve(sys.executable, command, environment)
        try:
            main(argument_parser().parse_args(arguments))
        except SystemExit as stop:
            os._exit(stop.code if isinstance(stop.code, int) else 1)

    @property
    def terminal(self) -> Path:
        return self.folder.with_suffix(".out")

    def finish(self, **how: Any) -> int:
        """Run to the end; returns the exit code."""
        return finished(self.start(**how))

    def is_locked(self) -> bool:
        """Whether another run could not use the folder."""
        folder = RunFolder(self.folder)
        if not self.folder.is_dir():
            return False
        try:
            folder.lock()
        except CheckpointError:
            return True
        folder.unlock()
        return False

    def metrics(self) -> list[Any]:
        """The final metrics, and metrics and validation losses of each evaluation.

        Training losses are logged as medians of the last steps of a process.
        """
        lines = (self.folder / "training.jsonl").read_text().splitlines()
        rows = [
            {key: value for key, value in json.loads(line).items() if key.startswith(METRICS)}
            for line in lines
        ]
        return [json.loads((self.folder / "metrics.json").read_text()), list(filter(None, rows))]

    def differences(self, other: "Small") -> str:
        """What of the final weights, optimizer, EMA and metrics differs; "" if nothing does."""
        try:
            assert_equal(self.state(), other.state())
            assert_equal(self.metrics(), other.metrics(), "metrics")
        except (AssertionError, OSError) as error:
            return (str(error).splitlines() or ["differs"])[0]
        return ""

    def state(self) -> dict[str, Any]:
        """The final weights, optimizer and, if there is one, EMA."""
        found = torch.load(self.folder / "model_final.pth", weights_only=True)
        return {key: found[key] for key in STATE if key in found}

    def last_line(self) -> str:
        """The last line on the terminal."""
        return (self.terminal.read_text(errors="replace").splitlines() or [""])[-1]


@cache
def toy_data(root: Path, train: int = 14) -> Path:
    """A folder of toy scenes, made on the first call."""
    if not (root / "toy_scenes").is_dir():
        generate_toy_scenes(
            root / "toy_scenes",
            train=train,
            val=5,
            width=96,
            height=64,
            max_size=50,
            progress=False,
        )
    return root


def finished(process: int) -> int:
    """Wait for a process; it is killed, with its session, if it hangs."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    for member in members(process):
        os.kill(member, signal.SIGKILL)
    exit_code(process)
    raise TimeoutError(f"a run did not end within {SECONDS:g} seconds")


def members(session: int) -> list[int]:
    """Living processes of a session."""
    return [pid for pid, fields in processes().items() if int(fields[3]) == session]


def children(parent: int) -> list[int]:
    return [pid for pid, fields in processes().items() if int(fields[1]) == parent]


def processes() -> dict[int, list[str]]:
    """State, parent, group, session, ... of all processes except zombies."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        if fields[0] != "Z":
            found[int(path.parent.name)] = fields
    return found
