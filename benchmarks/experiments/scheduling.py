"""Runs experiments in processes of their own, one after the other or several at a time."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.engine.launch import signals

from .bench import Experiment, Result
from .training import read_specification, write_specification

PROGRAM = "benchmarks.experiments.training"
CONSOLE = "console.txt"
POLL_SECONDS = 0.2


class Resources(NamedTuple):
    """What runs may use.

    Attributes:
        parallel: number of runs at a time, each with one CPU thread (OMP_NUM_THREADS, if set).
        workers: processes that load the data of a run; 0: the run itself does.
        modules: to import in each run.
    """

    parallel: int = 1
    workers: int = 0
    modules: Sequence[str] = ()


class Failure(NamedTuple):
    experiment: Experiment
    reason: str


def run_all(
    experiments: Sequence[Experiment],
    *,
    resources: Resources,
    report: Callable[[str], None],
) -> list[Failure]:
    """Run experiments in order; return those that failed.

    A signal stops the runs after they have saved their state.

    Raises:
        SystemExit: with EXIT_SAVED, after such a stop.
    """
    waiting = deque(experiments)
    running: dict[Experiment, subprocess.Popen] = {}
    failures: list[Failure] = []

    def stop(signum: int) -> None:
        for process in running.values():
            process.send_signal(signal.SIGTERM)

    with signals.handled_by(stop):
        while running or (waiting and not signals.requested()):
            while waiting and len(running) < resources.parallel and not signals.requested():
                experiment = waiting.popleft()
                report(f"{experiment.name}: {'continues' if prepare(experiment) else 'starts'}")
                running[experiment] = start(experiment, resources)
            time.sleep(POLL_SECONDS)
            for experiment, process in list(running.items()):
                if process.poll() is not None:
                    del running[experiment]
                    report(f"{experiment.name}: {outcome(experiment, process.returncode)}")
                    if process.returncode and not _was_stopped(process.returncode):
                        failures.append(Failure(experiment, last_line(experiment)))
        if signals.requested():
            raise SystemExit(signals.EXIT_SAVED)
    return failures


def prepare(experiment: Experiment) -> bool:
    """Remove an earlier run of another configuration; return whether a run is continued."""
    before = read_specification(experiment.folder)
    folder = RunFolder(experiment.folder)
    if before is None or before["settings"] != experiment.settings():
        folder.check_writable()
        folder.lock()  # fails if the earlier run is still going on
        folder.clear()
        folder.unlock()
    return experiment.finished_steps() > 0


def start(experiment: Experiment, resources: Resources) -> subprocess.Popen:
    """Start the process of a run; its output goes to a file in its folder."""
    write_specification(experiment, workers=resources.workers, modules=resources.modules)
    with (experiment.folder / CONSOLE).open("ab") as console:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", PROGRAM),
                *(str(experiment.folder), str(experiment.result_file)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": "1", **os.environ},
            start_new_session=True,  # Ctrl-C reaches it through `stop`, once
        )


def outcome(experiment: Experiment, exit_code: int) -> str:
    """What happened to a run, in words."""
    if _was_stopped(exit_code):
        return f"stopped after {experiment.finished_steps()} steps; the same command continues"
    result = experiment.result()
    if exit_code or result is None:
        return f"failed with exit code {exit_code}: {last_line(experiment)}"
    return f"finished in {result['seconds']['run'] / 60:.1f} minutes"


def _was_stopped(exit_code: int) -> bool:
    """Whether a run was stopped by `run_all`; before its first step, it ends without saving."""
    is_early = exit_code == -signal.SIGTERM and signals.requested() is not None
    return exit_code == signals.EXIT_SAVED or is_early


def last_line(experiment: Experiment) -> str:
    """The last line that a run printed, with the file that has the others."""
    path = experiment.folder / CONSOLE
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return f"{next((line for line in reversed(lines) if line.strip()), '')} ({path})"


def remaining_seconds(
    missing: Sequence[Experiment], results: Sequence[Result], *, parallel: int
) -> float | None:
    """An estimate of the time of missing runs; None without a finished one."""
    if not results:
        return None
    typical = statistics.median(result["seconds"]["run"] for result in results)
    steps = statistics.median(result["steps"] for result in results)
    open_parts = [max(1 - each.finished_steps() / steps, 0.0) for each in missing]
    return typical * sum(open_parts) / parallel
