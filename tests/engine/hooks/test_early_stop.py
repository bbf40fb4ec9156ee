"""Training stops after exactly `patience` evaluations without progress."""

import math

import pytest

from yolor_d2.engine.hooks import EarlyStop

from .scripted import run

LOSS = "validation/total_loss"


def values(*numbers: float, first: int = 1) -> dict[int, dict[str, float]]:
    return {first + 2 * k: {LOSS: number} for k, number in enumerate(numbers)}


def hook(patience: int = 2) -> EarlyStop:
    return EarlyStop(metric=LOSS, mode="min", patience=patience)


@pytest.mark.parametrize(
    ("numbers", "stops"),
    [
        ((5, 4, 3, 2, 1), False),
        ((5, 6, 4, 5, 3), False),
        ((5, 6, 6), True),
        ((5, 5, 5), True),  # an equal value is not better
        ((5, math.nan, math.nan), True),
        ((math.nan, 5, 6, 4), False),
    ],
)
def test_patience(numbers: tuple[float, ...], stops: bool) -> None:
    assert bool(run(values(*numbers), hook()).reason) == stops


def test_stop_reason_has_the_best_value() -> None:
    reason = run(values(5, 4, 6, 7), hook()).reason
    assert reason == f"{LOSS} has been best, 4, at step 4; not improved for 2 evaluations"


def test_steps_without_an_evaluation_do_not_count() -> None:
    assert not run(values(5, 6), hook(), steps=100).reason


def test_patience_continues_when_resumed() -> None:
    first, second, fresh = hook(), hook(), hook()
    run(values(4, 5), first, steps=4)
    second.load_state_dict(first.state_dict())

    assert run(values(4.5, first=4), second, start=4, steps=1).reason
    assert not run(values(4.5, first=4), fresh, start=4, steps=1).reason


def test_value_is_counted_once() -> None:
    """A resumed run can evaluate the step of its checkpoint again."""
    first, second = hook(), hook()
    run(values(4, 5), first, steps=4)
    second.load_state_dict(first.state_dict())
    assert not run({3: {LOSS: 5.0}}, second, start=3, steps=1).reason


def test_wrong_patience_is_refused() -> None:
    with pytest.raises(ValueError, match=r"TEST.EARLY_STOP.PATIENCE is 0"):
        hook(patience=0)
