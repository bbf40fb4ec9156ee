"""Runs one case: errors, time, memory, and everything that it writes or starts."""

import contextlib
import faulthandler
import io
import logging
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from yolor_d2.tools.errors import WRONG_USE, one_line_errors

from .cases import ACCEPTED, GIVEN, OUT, REFUSED, Case, Outcome, Target

LONGEST_LINE = 800  # characters of a clear error, with command and code
SPARE = 4  # the hard limit of memory, in multiples of the limit of a case
TEMPORARY = "temporary"
STARTS = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen"),
    *("pty.spawn", "socket.connect", "webbrowser.open"),
)
CHANGES = {"os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2}
CHANGES |= {"os.symlink": 2, "os.truncate": 1, "os.chmod": 1}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Records forbidden events of this process: programs, connections, writes outside a case."""

    def __init__(self) -> None:
        self.folder: str | None = None  # of the running case
        self.events: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in STARTS:
            self.events.append(f"{event} {arguments[:2]!r}")
        elif event == "open" and len(arguments) == 3 and (arguments[2] or 0) & WRITING:
            self._check(event, arguments[:1])
        elif event in CHANGES:
            self._check(event, arguments[: CHANGES[event]])

    def _check(self, event: str, paths: tuple[Any, ...]) -> None:
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                absolute = os.path.abspath(os.fsdecode(path))
                inside = any(
                    absolute == allowed or absolute.startswith(f"{allowed}/")
                    for allowed in (f"{self.folder}/{OUT}", f"{self.folder}/{TEMPORARY}", "/dev")
                )
                if not inside:
                    self.events.append(f"{event} {absolute}")


def restrict(megabytes: int) -> None:
    """Make this process a worker: no output, a hard limit of memory."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # C libraries print warnings
        os.dup2(nothing, descriptor)
    faulthandler.disable()
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SPARE * megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def reset_peak() -> None:
    """Let the peak start from the present memory, which can have become less (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """The largest memory of this process since `reset_peak`, or so far on other systems."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attempt(target: Target, state: Any, case: Case, folder: Path, watch: Watch) -> Outcome:
    """Run a case in a new folder, which is removed."""
    for name in (GIVEN, OUT, TEMPORARY):
        (folder / name).mkdir(parents=True)
    write_files(folder / GIVEN, case.files)
    before = list_files(folder / GIVEN)
    tempfile.tempdir = str(folder / TEMPORARY)
    reset_peak()
    home, memory, start = os.getcwd(), peak_megabytes(), time.process_time()
    os.chdir(folder)
    watch.events.clear()
    watch.folder = str(folder)
    try:
        outcome = _run(target, state, case)
    finally:
        watch.folder = None
        os.chdir(home)
    seconds, megabytes = time.process_time() - start, peak_megabytes() - memory
    if not outcome.is_finding:
        outcome = _check_traces(folder, before, watch) or outcome
    if not outcome.is_finding and seconds > target.seconds:
        outcome = Outcome("slow", f"{seconds:.1f} s of CPU time: {outcome.detail}", "slow")
    if not outcome.is_finding and megabytes > target.megabytes:
        outcome = Outcome("memory", f"{megabytes:.0f} MB more: {outcome.detail}", "memory")
    shutil.rmtree(folder)
    return outcome


def _run(target: Target, state: Any, case: Case) -> Outcome:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = _program(target, state, case)
    except SystemExit as stopped:  # of argparse: a usage, then the error
        code = stopped.code if isinstance(stopped.code, int) else 1
        errors = io.StringIO(errors.getvalue()[-LONGEST_LINE:].strip().rpartition("\n")[2] + "\n")
    except BaseException as error:
        kind = "wrong" if isinstance(error, AssertionError) else "traceback"
        text = f"{type(error).__name__}: {str(error)[:500]}"
        return Outcome(kind, text, place_of(error))
    lines = [line for line in errors.getvalue().splitlines() if line.strip()]
    if code != WRONG_USE:
        return Outcome("lines", lines[0][:500], lines[0][:40]) if lines else Outcome(ACCEPTED)
    fault = line_fault(lines, case.places)
    if fault is not None:
        return Outcome("unclear", f"{fault}: {' | '.join(lines)[:500]}", _shape(fault, lines))
    return Outcome(REFUSED, lines[0])


@one_line_errors
def _program(target: Target, state: Any, case: Case) -> int:
    """Run a case as the programs run their work: errors of users become one line."""
    return target.run(state, case) or 0


def line_fault(lines: list[str], places: tuple[str, ...]) -> str | None:
    """Say what is wrong with the lines of an error; None for one clear line."""
    if len(lines) != 1:
        return f"{len(lines)} lines instead of one"
    if len(lines[0]) > LONGEST_LINE:
        return f"a line of {len(lines[0])} characters"
    message = lines[0].partition(": ")[2]
    if not any(place in message for place in places):
        return "the line names neither file nor key"
    return None


def _shape(fault: str, lines: list[str]) -> str:
    """The words of an error without its numbers and names, to count equal ones once."""
    text = lines[0].partition(": ")[2] if lines else ""
    words = [word for word in text.split()[:12] if re.fullmatch(r"[a-z:,]+", word)]
    return f"{re.sub(r'[0-9]+', 'N', fault)} {' '.join(words)}"


def place_of(error: BaseException) -> str:
    """The innermost line of the package that an error passed, and the error's type."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/yolor_d2/" in frame.filename] or list(frames)
    last = ours[-1]
    return f"{type(error).__name__} at {'/'.join(Path(last.filename).parts[-3:])}:{last.lineno}"


def _check_traces(folder: Path, before: dict[str, bytes], watch: Watch) -> Outcome | None:
    """Look for forbidden events and files."""
    if watch.events:
        return Outcome("escape", watch.events[0][:500], watch.events[0].split()[0])
    if list_files(folder / GIVEN) != before:
        return Outcome("escape", "a given file was changed", "given")
    left = [str(p.relative_to(folder)) for p in folder.rglob("*") if _is_left(p, folder)]
    if left:
        return Outcome("left", f"left behind: {left[0]}", left[0])
    return None


def _is_left(path: Path, folder: Path) -> bool:
    """Whether a path is an incomplete or temporary file, or outside the folders of a case."""
    parts = path.relative_to(folder).parts
    if len(parts) == 1:
        return parts[0] not in (GIVEN, OUT, TEMPORARY)
    return parts[0] == TEMPORARY or (parts[0] == OUT and path.suffix == ".tmp")


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def list_files(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder, up to a megabyte of each."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = file.read(2**20)
    return found
