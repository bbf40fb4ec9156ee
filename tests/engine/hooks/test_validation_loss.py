"""Validation losses are correct and do not affect training."""

import copy
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase, TrainerBase
from torch import nn

from tests.modeling.factory import detectron2_semantic_model, random_batch, tiny_model
from tests.randomness import randomness
from yolor_d2.engine.hooks import ValidationLoss
from yolor_d2.engine.hooks.validation_loss import mean_losses
from yolor_d2.engine.optim.ema import ModelEMA
from yolor_d2.modeling.objects import CaptionTargets

TASKS = ("detection", "mask", "semantic", "caption")
DROPOUT = ("MODEL.CAPTION_HEAD.DROPOUT", 0.3)

BATCHES = [random_batch(images=count, seed=7 + count) for count in (2, 1)]


class Training(TrainerBase):
    """Steps of SGD on random batches."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def run_step(self) -> None:
        self.optimizer.zero_grad()
        sum(self.model(random_batch(seed=self.iter)).values()).backward()
        self.optimizer.step()


def train(*, measures: bool) -> tuple[Training, dict[str, torch.Tensor], list[Any]]:
    model = tiny_model(TASKS, *DROPOUT)
    model.backbone.bottom_up.stem.eval()  # like a frozen part
    trainer = Training(model)
    hooks: list[HookBase] = []
    if measures:
        ema = ModelEMA(model)
        hooks = [ValidationLoss(model=model, loaders=[BATCHES], period=2, ema=lambda: ema)]
    trainer.register_hooks(hooks)
    torch.manual_seed(3)  # of dropout
    trainer.train(0, 3)
    return trainer, model.state_dict(), randomness()


def test_training_is_the_same_with_validation() -> None:
    trainer, weights, random_numbers = train(measures=True)
    _, expected_weights, expected_numbers = train(measures=False)

    assert all(torch.equal(weights[name], value) for name, value in expected_weights.items())
    assert random_numbers == expected_numbers
    model = trainer.model
    assert not any(module.training for module in model.backbone.bottom_up.stem.modules())
    assert model.training
    assert model.caption_head.text.dropout.training
    history = trainer.storage.history("validation/total_loss").values()
    assert [iteration for _, iteration in history] == [1, 2]  # the second and the last step


def test_losses_are_means_over_images() -> None:
    model = tiny_model(TASKS, *DROPOUT)
    model(random_batch())  # changes the statistics
    before = copy.deepcopy(model.state_dict())

    losses = mean_losses(model, [BATCHES[:1], BATCHES[1:]])

    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    model.eval()
    with torch.no_grad():
        of_two, of_one = (model.training_losses(batch) for batch in BATCHES)
    assert set(losses) == {
        *("loss_cls", "loss_box", "loss_dfl", "loss_mask"),
        *("loss_sem_focal", "loss_sem_dice", "loss_caption"),
    }
    for name, loss in losses.items():
        assert loss == pytest.approx((2 * of_two[name].item() + of_one[name].item()) / 3)


def test_losses_match_the_predictions() -> None:
    """With running statistics, without dropout."""
    model = tiny_model(TASKS, *DROPOUT)
    model(random_batch())  # changes the statistics
    batch = random_batch(seed=1)
    measured = mean_losses(model, [[batch]])

    model.eval()
    with torch.no_grad():
        strong, weak = (
            model.raw_outputs(torch.stack([sample[key] for sample in batch]))
            for key in ("image", "weak_image")
        )
        labels = torch.stack([sample["sem_seg"] for sample in batch])
        ids = torch.stack([sample["caption_ids"] for sample in batch])
        expected = model.semantic_head.losses(strong.semantic, labels)
        known = torch.ones(len(ids), dtype=torch.bool)
        captions = CaptionTargets(ids[:, None], known, [None] * len(ids))
        expected |= model.caption_head.losses(weak.caption, captions)
    for name, loss in expected.items():
        assert measured[name] == pytest.approx(loss.item(), rel=1e-5)


def test_detectron2s_semantic_head_has_losses_too() -> None:
    model, batch = detectron2_semantic_model()
    assert set(mean_losses(model, [[batch]])) == {"loss_sem_seg"}


def test_raw_and_ema_weights_are_both_measured() -> None:
    model = tiny_model(("caption",))
    ema = ModelEMA(model)
    with torch.no_grad():
        model.caption_head.text.words.weight.mul_(3)
    trainer = Training(model)
    trainer.optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    hook = ValidationLoss(model=model, loaders=[BATCHES], period=1, ema=lambda: ema)
    trainer.register_hooks([hook])
    trainer.train(0, 1)

    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert set(latest) == {
        f"{prefix}/{name}"
        for prefix in ("validation", "validation_ema")
        for name in ("loss_caption", "total_loss")
    }
    assert latest["validation/total_loss"] == mean_losses(model, [BATCHES])["loss_caption"]
    with ema.applied():
        assert latest["validation_ema/total_loss"] == mean_losses(model, [BATCHES])["loss_caption"]
    assert latest["validation/total_loss"] != pytest.approx(latest["validation_ema/total_loss"])


def test_precision_is_that_of_training() -> None:
    model = tiny_model(("detection",))
    half = mean_losses(model, [BATCHES], autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    full = mean_losses(model, [BATCHES])
    assert half == pytest.approx(full, rel=0.05)
    assert half != full


def test_validation_without_losses_is_refused() -> None:
    with pytest.raises(ValueError, match=r"TEST.LOSS_PERIOD needs MODEL.META_ARCHITECTURE YOLOR"):
        ValidationLoss(model=nn.Linear(1, 1), loaders=[BATCHES], period=1)
    with pytest.raises(ValueError, match=r"DATASETS.TEST is empty"):
        ValidationLoss(model=tiny_model(("caption",)), loaders=[], period=1)
