"""The network in detectron2's own engine: checkpointer, predictor, trainer."""

from pathlib import Path

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor, SimpleTrainer
from detectron2.utils.events import EventStorage

from .factory import random_batch, tiny_config, tiny_model


def test_checkpointer_restores_all_weights(tmp_path: Path) -> None:
    saved, loaded = tiny_model(seed=0), tiny_model(seed=1)
    saved.panoptic.leaf_to_panoptic.fill_(-1)

    DetectionCheckpointer(saved, str(tmp_path)).save("weights")
    left = DetectionCheckpointer(loaded).load(str(tmp_path / "weights.pth"))

    assert left == {}
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert (loaded.panoptic.leaf_to_panoptic == -1).all()


def test_the_default_predictor() -> None:
    """It has its own resizing and takes BGR arrays."""
    cfg = tiny_config(
        ("detection", "mask", "semantic", "caption"),
        *("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96, "MODEL.WEIGHTS", ""),
    )
    picture = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)

    result = DefaultPredictor(cfg)(picture)

    assert result["instances"].image_size == (50, 70)
    assert result["sem_seg"].argmax(dim=0).shape == (50, 70)


def test_the_simple_trainer() -> None:
    model = tiny_model()
    first, last = model.backbone.bottom_up.stem[0].conv, model.caption_head.text.words
    before = first.weight.clone(), last.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with EventStorage():
        SimpleTrainer(model, [random_batch()], optimizer).run_step()
    assert not torch.equal(first.weight, before[0])
    assert not torch.equal(last.weight, before[1])


def test_channels_last_gives_the_same_gradients() -> None:
    plain = tiny_model(("detection", "mask", "semantic")).double()
    last = tiny_model(("detection", "mask", "semantic")).double()
    last.to(memory_format=torch.channels_last)

    for model in (plain, last):
        sum(model(random_batch()).values()).backward()

    for (name, one), other in zip(plain.named_parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-6, atol=1e-9, msg=name)
