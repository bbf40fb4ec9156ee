"""Signals that ask a run to stop: noted at once, obeyed when a step is finished and saved."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_SAVED = 75  # EX_TEMPFAIL of sysexits.h: come again, with --resume

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)

# One Ctrl-C may arrive twice: from the terminal, and from a launcher that passes it on.
SECOND_CTRL_C_SECONDS = 1.0


class Interrupted(SystemExit):
    """Ends a process that was asked to stop and has saved everything.

    Attributes:
        signal: the name of the first that has come to this process, if any has.
    """

    def __init__(self) -> None:
        super().__init__(EXIT_SAVED)
        self.signal = requested()


_came: list[signal.Signals] = []


def requested() -> str | None:
    """The name of the first signal that has come while they are noted, if any has."""
    return _came[0].name if _came else None


@contextmanager
def watching() -> Iterator[None]:
    """Only note the signals that come meanwhile; a second Ctrl-C raises KeyboardInterrupt."""
    pressed: list[float] = []

    def abort_at_second_ctrl_c(signum: int) -> None:
        if signum == signal.SIGINT:
            pressed.append(time.monotonic())
            if pressed[-1] - pressed[0] >= SECOND_CTRL_C_SECONDS:
                raise KeyboardInterrupt

    with handled_by(abort_at_second_ctrl_c):
        yield


@contextmanager
def handled_by(handle: Callable[[int], None]) -> Iterator[None]:
    """Note the signals that come meanwhile, and let a function do something besides.

    Only a process's main thread can set handlers; in others, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(signum: int, frame: FrameType | None) -> None:
        _came.append(signal.Signals(signum))
        handle(signum)

    before = {signum: signal.signal(signum, note) for signum in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _came.clear()


def ignore() -> None:
    """End in peace: launchers send SIGTERM to processes that end later than others."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
