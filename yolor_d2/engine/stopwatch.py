"""Durations of the parts of a step, on a CPU or a GPU."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Measures durations; on a GPU by events, so that the host does not wait.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self._host: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the duration of a block to a part. The part "data" is always timed on the host."""
        if self.on_gpu and part != "data":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self._events.append((part, first, last))
            return
        started = time.perf_counter()
        yield
        self._host[part] += time.perf_counter() - started

    def seconds(self) -> dict[str, float]:
        """Duration of each part so far; the device must have finished them."""
        total = dict(self._host)
        for part, first, last in self._events:
            total[part] = total.get(part, 0.0) + first.elapsed_time(last) / 1000
        return total
