"""Writers of a run's metrics: terminal, CSV, JSON lines, TensorBoard, Weights & Biases.

They are EventWriters of detectron2: each writes the values that are new in the storage.
"""

import csv
import datetime
import io
import json
import logging
import math
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.events import (
    EventStorage,
    EventWriter,
    TensorboardXWriter,
    get_event_storage,
)

from ..errors import PackageError
from ..files import replace_file
from .storage import RunStorage

logger = logging.getLogger(__name__)

WINDOW = 20  # steps; values that vary from step to step are written as medians
ITERATION = "iteration"
CSV_NAME, JSON_NAME = "metrics.csv", "training.jsonl"

Row = dict[str, float]


def build_writers(
    output_dir: str | Path, *, max_iter: int, wandb: bool = False
) -> list[EventWriter]:
    """Writers for the main process.

    Args:
        output_dir: of the run; can have the log of an earlier part of the run.
        max_iter: of the run, for the remaining time.
        wandb: whether to log to Weights & Biases as well.
    """
    folder = Path(output_dir)
    writers: list[EventWriter] = [
        ProgressPrinter(max_iter=max_iter),
        CSVWriter(folder / CSV_NAME),
        JSONLinesWriter(folder / JSON_NAME),
        TensorBoard(folder),
    ]
    return [*writers, WeightsAndBiases(folder)] if wandb else writers


class ProgressPrinter(EventWriter):
    """Logs one line: progress, remaining time, losses, speed, memory.

    Args:
        max_iter: of the run.
    """

    def __init__(self, *, max_iter: int) -> None:
        self.max_iter = max_iter
        self._printed = -1
        self._start: tuple[int, float] | None = None  # a step and the time of its end

    def write(self) -> None:
        storage = get_event_storage()
        latest = storage.latest()
        if "total_loss" not in latest or latest["total_loss"][1] <= self._printed:
            return
        self._printed = int(latest["total_loss"][1])

        def median(name: str) -> float:
            return storage.history(name).median(WINDOW)

        losses = [name for name in latest if name.startswith("loss_")]
        losses += [name for name in latest if name == "caption_reward"]
        parts = [part for part in ("data", "forward", "backward") if f"time/{part}" in latest]
        finished = self._printed + 1
        left = self._time_left(finished, median("time/step") / 1000)
        progress = f"of {self.max_iter} ({100 * finished / self.max_iter:.1f} %)"
        if "seconds_left" in latest:
            left = min(left, latest["seconds_left"][0])
            progress = f"of at most {self.max_iter}"
        # The first step includes starting workers and choosing kernels: nothing follows from it.
        is_first = self._printed == first_step(storage)
        logger.info(
            "step %d %s%s | loss %.4g: %s | lr %.3g | %.3g images/s, %.0f ms (%s) | %.1f GB",
            finished,
            progress,
            "" if is_first else f", {datetime.timedelta(seconds=round(left))} left",
            median("total_loss"),
            ", ".join(f"{name.removeprefix('loss_')} {median(name):.4g}" for name in losses),
            latest["lr"][0],
            median("images_per_second"),
            median("time/step"),
            ", ".join(f"{part} {median(f'time/{part}'):.0f}" for part in parts),
            peak_memory() / 1e9,
        )

    def _time_left(self, finished: int, step_seconds: float) -> float:
        """Estimate from the elapsed time, with evaluations; at first from the last steps."""
        now = time.monotonic()
        if self._start is None:
            self._start = finished, now
        else:
            first, started = self._start
            step_seconds = (now - started) / (finished - first)
        return step_seconds * (self.max_iter - finished)


def peak_memory() -> float:
    """Peak memory in bytes: of tensors on the GPU if it is used, else of this process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _NewValues:
    """Values of the storage that have not been returned yet."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, storage: EventStorage) -> dict[int, Row]:
        """The new values by iteration."""
        rows: dict[int, Row] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(WINDOW).items():
            if iteration > self._taken.get(name, -1):
                self._taken[name] = iteration
                rows[int(iteration)][name] = float(value)
        return dict(sorted(rows.items()))


def first_step(storage: EventStorage) -> int:
    """The iteration of the first step since the run was started or resumed, also before it."""
    if isinstance(storage, RunStorage):
        return storage.start_iter
    history = storage.histories().get("total_loss")
    return storage.iter if history is None else int(history.values()[0][1])


class TableWriter(EventWriter):
    """Writes a row of values for each iteration that has any to a file.

    When a run is resumed, rows of steps that are repeated are removed. Rows that cannot be written,
    for example to a full disk, are written later.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new_values = _NewValues()
        self._pending: dict[int, Row] = {}
        self._last: int | None = None  # iteration of the last row; None: none is written yet
        self._is_whole = False  # whether the file ends with that row, complete
        self._has_failed = False  # whether the last write has failed

    def write(self) -> None:
        storage = get_event_storage()
        self._pending = _merged(self._pending, self._new_values.take(storage))
        if not self._pending:
            return
        try:
            self._write(self._pending, storage)
        except OSError as error:
            if not self._has_failed:  # a full disk would cost a line at each write
                reason = error.strerror or error
                logger.warning("%s is not written, training continues: %s", self.path, reason)
            self._has_failed = True
        else:
            self._has_failed = False
            self._last = max(self._pending)
            self._pending = {}

    def _write(self, rows: dict[int, Row], storage: EventStorage) -> None:
        follows = self._is_whole and self._last is not None and min(rows) > self._last
        self._is_whole = False
        if follows and self.fits(rows):
            with self.path.open("a") as file:
                file.write(self.lines(rows))
        else:
            rows = _merged(self._kept(storage), rows)
            replace_file(self.path, self.dump(rows).encode())
        self._is_whole = True

    def _kept(self, storage: EventStorage) -> dict[int, Row]:
        """The rows in the file; the first time, without those of repeated steps."""
        try:
            rows = self.read() if self.path.exists() else {}
        except (AttributeError, KeyError, TypeError, ValueError, csv.Error):
            other = self.path.with_name(f"{self.path.name}.unreadable")
            os.replace(self.path, other)
            logger.warning("%s is damaged or was edited; it is now %s", self.path, other.name)
            rows = {}
        if self._last is not None:
            return rows
        start = first_step(storage)
        return {iteration: row for iteration, row in rows.items() if iteration < start}

    def fits(self, rows: Mapping[int, Row]) -> bool:
        """Whether rows can be appended to the file."""
        raise NotImplementedError

    def read(self) -> dict[int, Row]:
        """The rows of the file, without an incomplete last one."""
        raise NotImplementedError

    def lines(self, rows: Mapping[int, Row]) -> str:
        """Rows as text."""
        raise NotImplementedError

    def dump(self, rows: Mapping[int, Row]) -> str:
        """The text of a whole file."""
        raise NotImplementedError


def _merged(old: Mapping[int, Row], new: Mapping[int, Row]) -> dict[int, Row]:
    """All rows; those of the same iteration are merged."""
    return {i: old.get(i, {}) | new.get(i, {}) for i in sorted({*old, *new})}


class CSVWriter(TableWriter):
    """Writes a column for each metric. A metric that appears later gets a new column."""

    columns: tuple[str, ...] = ()

    def fits(self, rows: Mapping[int, Row]) -> bool:
        return all(set(row) <= set(self.columns) for row in rows.values())

    def read(self) -> dict[int, Row]:
        return read_csv(self.path)

    def lines(self, rows: Mapping[int, Row]) -> str:
        return self._text({ITERATION: i, **row} for i, row in rows.items())

    def dump(self, rows: Mapping[int, Row]) -> str:
        self.columns = tuple(dict.fromkeys(name for row in rows.values() for name in row))
        header = {name: name for name in (ITERATION, *self.columns)}
        return self._text([header]) + self.lines(rows)

    def _text(self, rows: Iterable[Mapping[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, [ITERATION, *self.columns], lineterminator="\n").writerows(rows)
        return text.getvalue()


def read_csv(path: Path) -> dict[int, Row]:
    """The rows of a CSVWriter's file by iteration, without an incomplete last line."""
    whole, _, _ = path.read_text().rpartition("\n")
    return {
        int(row.pop(ITERATION)): {name: float(value) for name, value in row.items() if value}
        for row in csv.DictReader(io.StringIO(whole))
    }


class JSONLinesWriter(TableWriter):
    """Writes a JSON object for each iteration; values that are not finite are null."""

    def fits(self, rows: Mapping[int, Row]) -> bool:
        return True

    def read(self) -> dict[int, Row]:
        whole, _, _ = self.path.read_text().rpartition("\n")
        rows = [json.loads(line) for line in whole.splitlines()]
        return {
            row.pop(ITERATION): {n: math.nan if v is None else v for n, v in row.items()}
            for row in rows
        }

    def lines(self, rows: Mapping[int, Row]) -> str:
        finite = {
            i: {name: value if math.isfinite(value) else None for name, value in row.items()}
            for i, row in rows.items()
        }
        return "".join(json.dumps({ITERATION: i, **row}) + "\n" for i, row in finite.items())

    def dump(self, rows: Mapping[int, Row]) -> str:
        return self.lines(rows)


class TensorBoard(EventWriter):
    """detectron2's writer; TensorBoard hides steps that a resumed run repeats.

    If events cannot be written, for example to a full disk, no more are written.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: TensorboardXWriter | None = None
        self._has_failed = False

    def write(self) -> None:
        self._until_failure(self._write)

    def close(self) -> None:
        if self._writer is not None:
            self._until_failure(self._writer.close)

    def _write(self) -> None:
        if self._writer is None:
            start = first_step(get_event_storage())
            self._writer = TensorboardXWriter(str(self.folder), WINDOW, purge_step=start)
        self._writer.write()

    def _until_failure(self, act: Callable[[], None]) -> None:
        """Call a function, except after an error: the writer's thread has ended then."""
        if self._has_failed:
            return
        try:
            act()
        except OSError as error:
            self._has_failed = True
            logger.warning("no more events for TensorBoard, training continues: %s", error)


class WeightsAndBiases(EventWriter):
    """Logs to Weights & Biases; a resumed run continues the same run there.

    Args:
        folder: of the run, with the id of the run in the file wandb_id.txt.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("wandb") is None:
            raise PackageError("LOG.WANDB needs Weights & Biases: pip install wandb")
        self.folder = folder
        self._new_values = _NewValues()
        self._run: Any = None

    def write(self) -> None:
        storage = get_event_storage()
        if self._run is None:
            self._run = self._start(is_new=first_step(storage) == 0)
        for iteration, row in self._new_values.take(storage).items():
            self._run.log({ITERATION: iteration, **row})

    def _start(self, *, is_new: bool) -> Any:
        import wandb

        id_file = self.folder / "wandb_id.txt"
        known = id_file.read_text() if id_file.exists() and not is_new else None
        run = wandb.init(dir=str(self.folder), name=self.folder.name, id=known, resume="allow")
        # Steps can be logged twice when a run is resumed, so the x axis is a metric.
        run.define_metric("*", step_metric=ITERATION)
        id_file.write_text(run.id)
        return run

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
