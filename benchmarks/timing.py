"""CPU time of functions, measured so that other load of the machine matters little."""

import datetime
import functools
import gc
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

from yolor_d2 import __version__

Job = Callable[[], object]
Clock = Callable[[], float]


def cpu_seconds(job: Job) -> float:
    """CPU time of a job in all threads of this process."""
    gc.collect()
    start = time.process_time()
    job()
    return time.process_time() - start


def measure_in_turns(jobs: Mapping[str, Job], *, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each job in each repeat.

    Every repeat runs all jobs, so that other load affects all jobs equally. Before that, each job
    runs once without measurement, to fill caches.
    """
    for job in jobs.values():
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            seconds[name].append(cpu_seconds(job))
    return seconds


class StopWatch:
    """Profiles functions: the time of each, without nested calls of other watched functions.

    Attributes:
        seconds: time of each part in seconds.
        calls: number of measured calls.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        """
        Args:
            clock: returns the time in seconds; None: CPU time of this process.
        """
        self._clock = clock or time.process_time
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls = 0
        self._inner = [0.0]  # time of nested watched calls, for each open call

    def wrap(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return the function with its time added to a part."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self._inner.append(0.0)
            start = self._clock()
            try:
                return function(*args, **kwargs)
            finally:
                spent = self._clock() - start
                self.seconds[part] += spent - self._inner.pop()
                self._inner[-1] += spent

        return timed

    @contextmanager
    def watch(self, parts: Mapping[str, Sequence[tuple[Any, str]]]) -> Iterator[None]:
        """Watch functions, given by owner and name, while the context is open."""
        with ExitStack() as stack:
            for part, functions in parts.items():
                for owner, name in functions:
                    timed = self.wrap(getattr(owner, name), part)
                    stack.enter_context(mock.patch.object(owner, name, timed))
            yield


def seconds_per_watched_call(calls: int = 20_000) -> float:
    """Overhead of a watched call."""

    def nothing() -> None:
        pass

    def call_often(function: Job) -> None:
        for _ in range(calls):
            function()

    plain = cpu_seconds(lambda: call_often(nothing))
    watched = cpu_seconds(lambda: call_often(StopWatch().wrap(nothing, "")))
    return (watched - plain) / calls


def machine_facts() -> dict[str, Any]:
    """Versions and hardware that results depend on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "torch": torch.__version__,
        "yolor_d2": __version__,
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
