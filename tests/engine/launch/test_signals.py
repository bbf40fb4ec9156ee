import os
import signal
import threading

import pytest

from yolor_d2.engine.launch import signals


def send(signum):
    os.kill(os.getpid(), signum)


def test_numbers():
    assert signals.EXIT_SAVED == os.EX_TEMPFAIL == 75
    with pytest.raises(SystemExit) as end:
        raise signals.Interrupted
    assert end.value.code == 75
    assert end.value.signal is None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signal_is_only_recorded(signum):
    before = [signal.getsignal(each) for each in signals.STOP_SIGNALS]
    with signals.watching():
        assert signals.requested() is None
        send(signum)
        assert signals.requested() == signum.name
    assert [signal.getsignal(each) for each in signals.STOP_SIGNALS] == before


def test_signals_are_cleared_afterwards():
    """For example an evaluation in Python after an interrupted training."""
    with signals.watching():
        send(signal.SIGTERM)
        end = signals.Interrupted()
    assert end.signal == "SIGTERM"
    assert signals.requested() is None


def test_further_signals_have_no_effect():
    with signals.watching():
        for signum in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            send(signum)
        assert signals.requested() == "SIGUSR2"


def test_one_ctrl_c_that_comes_twice_is_one(monkeypatch):
    times = iter([100.0, 100.9])
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(times))
    with signals.watching():
        send(signal.SIGINT)
        send(signal.SIGINT)
        send(signal.SIGTERM)


def test_second_ctrl_c_raises_keyboard_interrupt(monkeypatch):
    times = iter([100.0, 101.1])
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(times))
    before = signal.getsignal(signal.SIGINT)
    with signals.watching():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_handlers_return_after_an_exception():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(signals.Interrupted), signals.watching():
        raise signals.Interrupted
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_have_no_effect():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with signals.watching():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_process_ignores_signals_at_its_end():
    before = {signum: signal.getsignal(signum) for signum in signals.STOP_SIGNALS}
    try:
        signals.ignore()
        for signum in signals.STOP_SIGNALS:
            send(signum)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
