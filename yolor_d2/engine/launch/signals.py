"""Signals that request a stop: recorded at once; the run stops after the step is saved."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_SAVED = 75  # EX_TEMPFAIL of sysexits.h: continue with --resume

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)

# One Ctrl-C can arrive twice: from the terminal, and from a launcher that passes it on.
SECOND_CTRL_C_SECONDS = 1.0


class Interrupted(SystemExit):
    """Ends a process after a requested stop; the state has been saved.

    Attributes:
        signal: name of the first signal that this process received; None: none.
    """

    def __init__(self) -> None:
        super().__init__(EXIT_SAVED)
        self.signal = requested()


_received: list[signal.Signals] = []


def requested() -> str | None:
    """The name of the first recorded signal; None if there is none."""
    return _received[0].name if _received else None


@contextmanager
def watching() -> Iterator[None]:
    """Context in which signals are only recorded; a second Ctrl-C raises KeyboardInterrupt."""
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
    """Context in which signals are recorded and passed to a function.

    Only the main thread can set handlers; in other threads, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def record(signum: int, frame: FrameType | None) -> None:
        _received.append(signal.Signals(signum))
        handle(signum)

    before = {signum: signal.signal(signum, record) for signum in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _received.clear()


def ignore() -> None:
    """Ignore further signals: launchers send SIGTERM to processes that end later than others."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
