"""Warnings about waiting for data."""

import pytest

from yolor_d2.engine.hooks import DataWait

from .scripted import run


def warnings(caplog: pytest.LogCaptureFixture, *, waits: list[float], **options: int) -> int:
    """Number of warnings for steps of 100 ms with these waiting times in ms."""
    script = {k: {"time/data": wait, "time/step": 100.0} for k, wait in enumerate(waits)}
    run(script, DataWait(limit=0.1, **options), steps=len(waits))
    return sum("DATALOADER.NUM_WORKERS" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ([9.0] * 200, 0),
        ([11.0] * 200, 1),
        ([5000.0] * 10 + [5.0] * 190, 0),  # workers start
        ([0.0] * 100 + [19.0] * 20, 0),  # less than a tenth of the last 100 steps
        ([5.0, 30.0] * 100, 1),
    ],
)
def test_share_is_that_of_a_window(
    waits: list[float], expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings(caplog, waits=waits) == expected


def test_warnings_are_not_repeated_soon(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(caplog, waits=[50.0] * 110, window=10, repeat=40) == 3


def test_warning_has_the_share(caplog: pytest.LogCaptureFixture) -> None:
    warnings(caplog, waits=[25.0] * 110)
    assert "25 % of the time of the last 100 steps was spent waiting for data" in caplog.text
    assert "LOG.MAX_DATA_WAIT is 10 %" in caplog.text
