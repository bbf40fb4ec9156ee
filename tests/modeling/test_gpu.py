"""What only a GPU can show; skipped where there is none."""

import warnings

import pytest
import torch

from .factory import random_batch, tiny_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_step_waits_once(dtype: torch.dtype) -> None:
    model = tiny_model().cuda()
    model(random_batch())  # the first step also sets up libraries
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


def test_results_are_those_of_the_cpu() -> None:
    model = tiny_model().eval()
    expected = model(random_batch())[0]
    found = model.cuda()(random_batch())[0]

    assert found["instances"].scores.device.type == "cuda"
    assert torch.allclose(found["instances"].scores.cpu(), expected["instances"].scores, atol=1e-4)
    same = found["sem_seg"].argmax(dim=0).cpu() == expected["sem_seg"].argmax(dim=0)
    assert same.float().mean() > 0.99
