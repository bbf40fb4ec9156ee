"""Schedules, compared with published values, detectron2's schedules, and by hand."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler
from torch import nn

from yolor_d2.engine.optim.optimizer import make_optimizer
from yolor_d2.engine.optim.schedule import Schedule, build_schedule, factor

from ...modeling.factory import default_config
from ...modeling.golden import golden_arrays

NAMES = {"cos": "cosine", "flat": "flat_cosine", "lin": "linear"}
FALLING = ("flat_cosine", "cosine", "linear", "poly")


@pytest.mark.parametrize("short", NAMES)
@pytest.mark.parametrize("epochs", [60, 100, 300])
def test_published_numbers(short: str, epochs: int, shared_dir: Path) -> None:
    expected = golden_arrays(shared_dir, "geometry")[f"lr/{short}_{epochs}"]
    found = [factor(NAMES[short], i, total=epochs, final=0.01) for i in range(epochs)]
    assert found == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name", FALLING)
@pytest.mark.parametrize("total", [2, 9, 10])
def test_curve_decreases_from_1_to_final(name: str, total: int) -> None:
    curve = [factor(name, i, total=total, final=0.2) for i in range(total + 2)]
    assert curve[0] == 1
    assert curve[total:] == pytest.approx([0.2, 0.2])
    assert all(first >= second for first, second in pairwise(curve))


def test_curves_by_hand() -> None:
    assert factor("flat_cosine", 0, total=1, final=0.2) == 1
    assert factor("poly", 75, total=100, final=0.0) == pytest.approx(0.25**0.9)
    assert factor("flat_cosine", 75, total=100, final=0.2) == pytest.approx(0.6)
    assert factor("fixed", 75, total=100, final=0.2) == 1
    # An odd run: two steps flat, then the cosine over two more.
    odd = [factor("flat_cosine", i, total=5, final=0.0) for i in range(5)]
    assert odd == pytest.approx([1, 1, 1, 0.5, 0])


def solver_config(*overrides: object) -> CfgNode:
    return default_config(
        *("SOLVER.MAX_ITER", 40, "SOLVER.WARMUP_ITERS", 10, "SOLVER.BASE_LR", 0.2),
        *("SOLVER.WARMUP_FACTOR", 0.1, "SOLVER.STEPS", (20, 30), *overrides),
    )


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 10, 100])
def test_schedules_of_detectron2(name: str, method: str, warmup: int) -> None:
    cfg = solver_config("SOLVER.LR_SCHEDULER_NAME", name, "SOLVER.WARMUP_METHOD", method)
    cfg.SOLVER.WARMUP_ITERS = warmup
    theirs, ours = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2) for _ in range(2))
    scheduler = build_lr_scheduler(cfg, theirs)
    schedule = build_schedule(cfg)
    for iteration in range(40):
        schedule.apply(ours, iteration)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"]), iteration
        theirs.step()
        scheduler.step()


@pytest.mark.parametrize("name", ["flat_cosine", "linear", "fixed"])
def test_curve_instead_of_the_cosine(name: str) -> None:
    """The curve can be given beside or as the name of the schedule."""
    both = ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.LR_CURVE", name]
    beside = build_schedule(solver_config(*both))
    alone = build_schedule(solver_config("SOLVER.LR_SCHEDULER_NAME", name))
    assert [beside.factor(i) for i in range(40)] == [alone.factor(i) for i in range(40)]
    steps = solver_config(*both, "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR")
    assert build_schedule(steps).factor(25) == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"SOLVER\.LR_CURVE must be one of"):
        build_schedule(solver_config(*both, "SOLVER.LR_CURVE", "spiral"))


def test_warm_up_by_hand() -> None:
    """As published: the rate of biases decreases in the warm-up, other rates increase."""
    cfg = solver_config(
        *("SOLVER.LR_SCHEDULER_NAME", "flat_cosine", "SOLVER.WARMUP_FACTOR", 0.0),
        *("SOLVER.WARMUP_FACTOR_BIAS", 10.0, "SOLVER.WARMUP_MOMENTUM", 0.8),
    )
    schedule = build_schedule(cfg)
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(model, name="SGD", lr=0.01, weight_decay=0.1, momentum=0.9)
    found = {}
    for iteration in (0, 5, 9, 10, 19, 39):
        schedule.apply(optimizer, iteration)
        of_weight, of_bias = optimizer.param_groups
        assert of_weight["momentum"] == of_bias["momentum"]
        found[iteration] = of_weight["lr"], of_bias["lr"], of_weight["momentum"]
    assert found[0] == pytest.approx((0, 0.1, 0.8))
    assert found[5] == pytest.approx((0.005, 0.055, 0.85))
    assert found[9] == pytest.approx((0.009, 0.019, 0.89))
    assert found[10] == pytest.approx((0.01, 0.01, 0.9))
    assert found[19] == found[10]
    end = 0.01 * factor("cosine", 19, total=20, final=0.01)
    assert found[39] == pytest.approx((end, end, 0.9))


def test_first_beta_warms_up_like_momentum() -> None:
    schedule = Schedule("fixed", total=10, warmup_iters=4, warmup_momentum=0.5)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], betas=(0.9, 0.99))
    betas = []
    for iteration in (0, 2, 4):
        schedule.apply(optimizer, iteration)
        betas.append(optimizer.param_groups[0]["betas"])
    assert betas == [(0.5, 0.99), pytest.approx((0.7, 0.99)), (0.9, 0.99)]


def test_momentum_is_constant_without_warm_up() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], momentum=0.7)
    build_schedule(solver_config()).apply(optimizer, 0)
    assert optimizer.param_groups[0]["momentum"] == 0.7


def test_loaded_optimizer_continues_schedule() -> None:
    """Only the optimizer's state is saved."""
    schedule = Schedule("linear", total=10, warmup_iters=4, warmup_momentum=0.5)
    first, second = (
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9) for _ in range(2)
    )
    schedule.apply(first, 3)
    second.load_state_dict(first.state_dict())
    for optimizer in (first, second):
        schedule.apply(optimizer, 7)
    assert second.param_groups[0]["lr"] == first.param_groups[0]["lr"] == pytest.approx(0.0307)
    assert second.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("key", ["LR_SCHEDULER_NAME", "WARMUP_METHOD"])
def test_unknown_names_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"SOLVER\.{key} must be one of .*, not sudden"):
        build_schedule(solver_config(f"SOLVER.{key}", "sudden"))
