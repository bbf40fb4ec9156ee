"""The moving average of the weights, compared with the published formula and PyTorch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from yolor_d2.engine.optim.ema import ModelEMA

from ...modeling.factory import tiny_model
from ...modeling.golden import golden_arrays
from ...modeling.waiting import Counting


def change(model: nn.Module, seed: int) -> None:
    """Change the state in place like a training step, including integers."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype))
        else:
            value.add_(1)


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def norm_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_published_decay(shared_dir: Path) -> None:
    """The average of a weight that changes from 1 to 0 is multiplied by the decay."""
    for updates, decay in golden_arrays(shared_dir, "geometry")["ema_decay"].tolist():
        model = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(model.weight)
        ema = ModelEMA(model, decay=0.9999, tau=2000)
        ema.updates = int(updates) - 1
        nn.init.zeros_(model.weight)
        ema.update()
        assert ema.updates == updates
        assert ema.averages["weight"].item() == pytest.approx(decay, rel=1e-12)


def test_floats_are_averaged_and_integers_copied() -> None:
    model = tiny_model()
    ema = ModelEMA(model, decay=0.9, tau=3)

    def blend(means: Any, values: Any, updates: Tensor | int) -> None:
        get_ema_multi_avg_fn(0.9 * (1 - math.exp(-int(updates) / 3)))(means, values, updates)

    theirs = AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
    theirs.update_parameters(model)  # the first one copies
    for seed in range(3):
        change(model, seed)
        ema.update()
        theirs.update_parameters(model)

    expected = {
        name: value if value.is_floating_point() else model.state_dict()[name]
        for name, value in theirs.module.state_dict().items()
    }
    assert_same(ema.state_dict()["model"], expected)
    assert ema.averages["backbone.bottom_up.stem.0.norm.num_batches_tracked"] == 3


def test_update_does_not_synchronize() -> None:
    ema = ModelEMA(norm_model())
    with Counting() as counting:
        ema.update()
    assert counting.waits == {}


def test_averages_have_single_precision() -> None:
    model = norm_model().bfloat16()
    ema = ModelEMA(model, decay=0.5, tau=1e-9)
    before = model[0].weight.float()
    change(model, 0)
    ema.update()
    assert ema.averages["0.weight"].dtype == torch.float32
    torch.testing.assert_close(ema.averages["0.weight"], (before + model[0].weight.float()) / 2)


def test_constant_values_stay_exact() -> None:
    model = norm_model()
    ema = ModelEMA(model, decay=0.9, tau=2)
    for _ in range(5):
        ema.update()
    assert_same(ema.averages, model.state_dict())


def test_model_has_averages_temporarily() -> None:
    model = norm_model()
    ema = ModelEMA(model, decay=0.9, tau=2)
    change(model, 0)
    ema.update()
    places = [value.data_ptr() for value in model.state_dict().values()]
    raw, means = copied(model.state_dict()), copied(ema.averages)

    with ema.applied():
        assert_same(model.state_dict(), means)
        assert [value.data_ptr() for value in model.state_dict().values()] == places
        with ema.applied():  # has no effect
            change(model, 1)
        assert_same(model.state_dict(), means)
    assert_same(model.state_dict(), raw)

    with pytest.raises(KeyboardInterrupt), ema.applied():
        raise KeyboardInterrupt
    assert_same(model.state_dict(), raw)
    assert_same(ema.averages, means)


def test_resumed_average_is_bit_equal() -> None:
    model = norm_model()
    whole = ModelEMA(model, decay=0.9, tau=3)
    resumed = ModelEMA(norm_model(), decay=0.9, tau=3)
    change(model, 0)
    whole.update()

    resumed.load_state_dict(whole.state_dict())
    resumed.model = model
    change(model, 1)
    for ema in (whole, resumed):
        ema.update()

    assert resumed.updates == 2
    assert_same(resumed.averages, whole.averages)


def test_averages_of_another_network_are_refused() -> None:
    ema = ModelEMA(norm_model(), decay=0.9, tau=3)
    kept = copied(ema.averages)
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(1))
    state = {"model": other.state_dict(), "updates": 5}
    with pytest.raises(ValueError, match=r"1\.bias, 1\.running_mean, 1\.running_var, 1\.weight"):
        ema.load_state_dict(state)
    del state["model"]["0.weight"]
    with pytest.raises(ValueError, match=r"0\.weight"):
        ema.load_state_dict(state)
    assert_same(ema.averages, kept)
    assert ema.updates == 0
