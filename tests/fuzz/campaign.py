"""Runs the cases of a target in worker processes, and counts what they lead to."""

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .cases import ACCEPTED, REFUSED, Case, Outcome, Target, generator, save_case
from .sandbox import Watch, attempt, restrict

CASES_OF_WORKER = 400  # then a new one starts, so that no state adds up
# A case hangs if it takes this multiple of its CPU time, or if it lasts so much longer without it;
# on a busy machine, a worker can wait long for a processor.
CPU_PATIENCE, PATIENCE = 2, 24

# Workers have all modules and the state of the target in memory from the start.
_context = get_context("fork")


@dataclass
class Tally:
    """Counts of a run.

    Attributes:
        counts: number of cases by kind of outcome.
        findings: the first outcome at each place, with its index.
        repeats: number of findings at each place.
        seconds: duration.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, Outcome]] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, index: int, outcome: Outcome) -> bool:
        """Count an outcome; return whether it is a new finding."""
        self.counts[outcome.kind] += 1
        if not outcome.is_finding:
            return False
        key = f"{outcome.kind} {outcome.place}"
        self.repeats[key] += 1
        is_new = key not in self.findings
        self.findings.setdefault(key, (index, outcome))
        return is_new

    def summary(self) -> str:
        """Return the counts in a line."""
        tried, counts = self.counts.total(), self.counts
        return (
            f"{tried} mutations in {self.seconds:.0f} s: {counts[ACCEPTED]} accepted, "
            f"{counts[REFUSED]} refused with one line, {len(self.findings)} findings"
        )


def run_campaign(
    name: str,
    target: Target,
    *,
    seed: int,
    minutes: float = float("inf"),
    cases: int | None = None,
    folder: Path | None = None,
) -> Tally:
    """Run cases 0, 1, ... until the time or their number is over.

    Args:
        name: of the target.
        target: the target.
        seed: of all cases.
        minutes: duration; the case that is running at its end is finished.
        cases: number of cases; None: no limit.
        folder: gets a file for each finding; None writes nothing.
    """
    tally = Tally()
    state = target.prepare()
    start = time.monotonic()
    for index, outcome in _outcomes(target, state, _numbered(name, seed, state, target)):
        if tally.add(index, outcome) and folder is not None:
            case = target.mutate(generator(name, seed, index), index, state)
            save_case(folder / f"{name}-{seed}-{index}.json", name, case, outcome)
        tally.seconds = time.monotonic() - start
        if tally.seconds > 60 * minutes or index + 1 == cases:
            break
    return tally


def _numbered(name: str, seed: int, state: Any, target: Target) -> Iterator[tuple[int, Any]]:
    """Yield each index with a function that makes its case, for the worker to call."""
    for index in count():
        yield index, lambda i=index: target.mutate(generator(name, seed, i), i, state)


def replay(target: Target, case: Case) -> Outcome:
    """Run one case."""
    state = target.prepare()
    return next(_outcomes(target, state, iter([(0, lambda: case)])))[1]


def _outcomes(
    target: Target, state: Any, cases: Iterator[tuple[int, Any]]
) -> Iterator[tuple[int, Outcome]]:
    """Yield the index and the outcome of each case; crashes and hangs end only their worker."""
    while batch := list(islice(cases, CASES_OF_WORKER)):
        done = 0
        while done < len(batch):
            with closing(_outcomes_of_worker(target, state, batch[done:])) as results:
                for outcome in results:
                    yield batch[done][0], outcome
                    done += 1


def _outcomes_of_worker(
    target: Target, state: Any, batch: list[tuple[int, Any]]
) -> Iterator[Outcome]:
    """Yield the outcomes of cases in one worker, until it stops."""
    reader, writer = _context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (target, state, batch, Path(folder).resolve(), writer)
        worker = _context.Process(target=_work, args=arguments, daemon=True)
        worker.start()
        writer.close()
        try:
            for _ in batch:
                if not _answers(reader, worker.pid, target.seconds):
                    yield Outcome("hang", f"much more than {target.seconds} s", "hang")
                    return
                outcome = reader.recv()
                yield outcome
                if outcome.kind == "memory":  # its peak hides that of later cases
                    return
        except EOFError:
            worker.join()
            yield Outcome("crash", _ending(worker.exitcode), f"exit code {worker.exitcode}")
        finally:
            worker.kill()
            worker.join()
            reader.close()


def _answers(reader: Connection, worker: int | None, seconds: float) -> bool:
    """Wait for an outcome; False if the case hangs."""
    start = _cpu_seconds(worker)
    for _ in range(PATIENCE):
        if reader.poll(seconds):
            return True
        if _cpu_seconds(worker) - start > CPU_PATIENCE * seconds:
            return reader.poll(0)
    return False


def _cpu_seconds(process: int | None) -> float:
    """The CPU time of a process so far; 0 after its end."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _work(
    target: Target,
    state: Any,
    batch: Iterable[tuple[int, Any]],
    folder: Path,
    writer: Connection,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends this
    restrict(target.megabytes)
    watch = Watch()
    for index, make in batch:
        writer.send(attempt(target, state, make(), folder / f"case{index}", watch))
    writer.close()
    os._exit(0)  # without the parent's exit handlers


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with {code}"
