"""Factors on losses that change during training."""

from typing import Any

import pytest
import torch

from yolor_d2.engine.optim.loss_factors import LossFactors
from yolor_d2.engine.trainer import Trainer

from ...small_runs import Configure

KEY = "SOLVER.LOSS_FACTORS"
LOSSES = {
    "loss_cls": torch.tensor(1.0),
    "loss_cls_one_to_one": torch.tensor(2.0),
    "loss_mask": torch.tensor(4.0),
}


def factors(*items: Any) -> LossFactors:
    return LossFactors(items, total=4, key=KEY)


def test_factors_change_linearly() -> None:
    changing = factors(["loss_cls", 1.5, 0.5], ("loss_*_one_to_one", 0, 2))
    found = [changing.apply(LOSSES, iteration) for iteration in range(4)]
    assert [each["loss_cls"].item() for each in found] == [1.5, 1.25, 1.0, 0.75]
    assert [each["loss_cls_one_to_one"].item() for each in found] == [0, 1, 2, 3]
    assert all(each["loss_mask"] is LOSSES["loss_mask"] for each in found)


def test_last_matching_pattern_applies() -> None:
    found = factors(["*", 3, 3], ["loss_mask", 0.5, 0.5]).apply(LOSSES, 2)
    assert [value.item() for value in found.values()] == [3, 6, 2]


@pytest.mark.parametrize("item", [["loss_cls", 1.0], "abc", ["", 1, 2], ["loss_cls", 1, 2, 3]])
def test_other_lists_are_refused(item: Any) -> None:
    with pytest.raises(ValueError, match=r"SOLVER\.LOSS_FACTORS has .*; it must have lists"):
        factors(item)


def test_pattern_without_a_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"LOSS_FACTORS has 'loss_box', which .*: loss_cls, "):
        factors(["loss_box", 1, 2]).apply(LOSSES, 0)


def test_gradients_have_the_factors_and_the_log_has_not(configure: Configure) -> None:
    def trained(name: str, *more: Any) -> Trainer:
        torch.manual_seed(0)
        settings = ("SOLVER.MAX_ITER", 1, "SOLVER.OPTIMIZER", "SGD", "SOLVER.WARMUP_ITERS", 0)
        tasks = ("MODEL.YOLOR.TASKS", ["detection"], "SOLVER.CLIP_GRADIENTS.ENABLED", False)
        trainer = Trainer(configure(name, *settings, *tasks, *more))
        trainer.train()
        return trainer

    plain, doubled = trained("plain"), trained("doubled", KEY, [["loss_*", 2.0, 5.0]])
    logged = [each.storage.latest() for each in (plain, doubled)]
    assert logged[0]["total_loss"][0] == logged[1]["total_loss"][0]
    assert logged[1]["grad_norm"][0] == pytest.approx(2 * logged[0]["grad_norm"][0], rel=1e-5)
