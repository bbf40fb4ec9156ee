"""The best weights are kept, also when a run is resumed."""

import io
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase

from yolor_d2.engine.hooks import BestCheckpoint

from .scripted import run

METRIC = "bbox/AP"


def reloaded(state: dict[str, Any]) -> dict[str, Any]:
    """A hook with a loaded state."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def values(*numbers: float, first: int = 2) -> dict[int, dict[str, float]]:
    """A value every third step."""
    return {first + 3 * k: {METRIC: number} for k, number in enumerate(numbers)}


def test_resumed_run_keeps_better_checkpoint(tmp_path: Path) -> None:
    def best(ap: str = "") -> str:
        return (tmp_path / "model_best").read_text()

    def hook() -> BestCheckpoint:
        def save(name: str) -> None:
            (tmp_path / name).write_text(str(made.best))

        made = BestCheckpoint(save=save, metric=METRIC)
        return made

    first = hook()
    run(values(10, 50, 20), first)
    assert best() == "50.0"
    second = hook()
    second.load_state_dict(reloaded(first.state_dict()))
    run(values(15, 16, first=12), second, start=10)

    assert best() == "50.0"
    assert (second.best, second.best_iteration) == (50, 5)
    third = hook()
    third.load_state_dict(reloaded(second.state_dict()))
    run(values(51, first=22), third, start=20)
    assert best() == "51.0"
    assert [path.name for path in tmp_path.iterdir()] == ["model_best"]


@pytest.mark.parametrize(
    ("mode", "numbers", "expected"),
    [
        ("max", (3, 5, 5, 4, 6), [3, 5, 6]),
        ("min", (3, 5, 2, 2, 1), [3, 2, 1]),
        ("max", (math.nan, -1, math.nan, math.inf, 0), [-1, 0]),
        ("min", (-math.inf, 2, math.nan), [2]),
    ],
)
def test_content_of_a_checkpoint(
    mode: str, numbers: tuple[float, ...], expected: list[float]
) -> None:
    saved: list[float | None] = []
    hook = BestCheckpoint(save=lambda name: saved.append(hook.best), metric=METRIC, mode=mode)
    run(values(*numbers), hook, steps=20)
    assert saved == expected


def test_each_value_is_compared_once(caplog: pytest.LogCaptureFixture) -> None:
    """Between evaluations, the storage still has the previous value."""
    hook = BestCheckpoint(save=lambda name: None, metric=METRIC)
    with caplog.at_level(logging.INFO, logger="yolor_d2"):
        run(values(10, 5), hook)
    assert [record.message for record in caplog.records if "yolor_d2" in record.name] == [
        "bbox/AP is 10, the first value: saved as model_best",
        "bbox/AP is 5; model_best is still from step 3, 10",
    ]


def test_nothing_is_saved_after_a_failure() -> None:
    """A failed save must not stop one process: all take part in saving."""

    class Fail(HookBase):
        def after_step(self) -> None:
            raise RuntimeError

    saved: list[str] = []
    hook = BestCheckpoint(save=saved.append, metric=METRIC)
    with pytest.raises(RuntimeError):
        run({0: {METRIC: 7.0}}, Fail(), hook)
    assert not saved


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("bbox/APP", "TEST.BEST.METRIC bbox/APP is not measured; measured are bbox/AP"),
        ("box/AP", "TEST.BEST.METRIC box/AP was never measured"),
    ],
)
def test_wrong_metric_name_is_warned_about_once(
    metric: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(values(10, 50), BestCheckpoint(save=lambda name: None, metric=metric))
    assert [record.message for record in caplog.records if "yolor_d2" in record.name] == [message]


def test_wrong_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"TEST.BEST.MODE must be max or min, not best"):
        BestCheckpoint(save=lambda name: None, metric=METRIC, mode="best")
