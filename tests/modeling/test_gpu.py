"""Tests that need a GPU."""

import warnings
from collections.abc import Hashable, Sequence

import pytest
import torch

from yolor_d2.modeling.heads.caption.self_critical import SelfCritical

from .factory import random_batch, tiny_model
from .heads.caption.factory import CAPTIONS, make_features, make_head, targets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_step_synchronizes_once(dtype: torch.dtype) -> None:
    model = tiny_model().cuda()
    model(random_batch())  # the first step also initializes libraries
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with (
            warnings.catch_warnings(record=True) as waits,
            torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32),
        ):
            warnings.simplefilter("always")
            losses = model(random_batch())
            sum(losses.values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert len([w for w in waits if "synchroniz" in str(w.message)]) <= 1
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_results_equal_those_of_the_cpu() -> None:
    model = tiny_model().eval()
    expected = model(random_batch())[0]
    found = model.cuda()(random_batch())[0]

    assert found["instances"].scores.device.type == "cuda"
    assert torch.allclose(found["instances"].scores.cpu(), expected["instances"].scores, atol=1e-4)
    same = found["sem_seg"].argmax(dim=0).cpu() == expected["sem_seg"].argmax(dim=0)
    assert same.float().mean() > 0.99


@pytest.mark.parametrize("how", [{"beam_size": 1}, {"beam_size": 5}, {"top_p": 0.9, "seed": 3}])
def test_captions_equal_those_of_the_cpu(how: dict[str, float]) -> None:
    head, features = make_head(), make_features()
    expected = head.generate(head(features), **how)
    head = head.cuda()
    found = head.generate(head({name: map_.cuda() for name, map_ in features.items()}), **how)

    assert found.ids.device.type == "cuda"
    assert torch.equal(found.ids.cpu(), expected.ids)
    torch.testing.assert_close(found.scores.cpu(), expected.scores, atol=1e-4, rtol=0)


def test_self_critical_gradients_are_finite_in_half_precision() -> None:
    head = make_head(self_critical=SelfCritical(samples=4), dropout=0.0).train().cuda()
    features = {name: map_.cuda() for name, map_ in make_features().items()}

    def count(image_ids: Sequence[Hashable], ids: torch.Tensor) -> torch.Tensor:
        return (ids == 7).sum(dim=2).double()

    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = head.losses(head(features), targets(CAPTIONS.cuda()), count)["loss_caption"]
    loss.backward()
    gradients = [p.grad for p in head.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert any(gradient.any() for gradient in gradients)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
