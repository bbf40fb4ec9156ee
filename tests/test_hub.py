"""Entry points of torch.hub."""

from pathlib import Path

import torch

from .saved_networks import Saved

ROOT = str(Path(__file__).parents[1])


def test_networks() -> None:
    overrides = ("MODEL.YOLOR.TASKS", "['detection']")
    toy = torch.hub.load(ROOT, "toy", *overrides, source="local").eval()
    (result,) = toy([{"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}])
    assert set(result) == {"instances"}
    assert torch.hub.load(ROOT, "v9_t", source="local").detection_head is not None


def test_predictor(saved: Saved) -> None:
    settings = {"device": "cpu", "tasks": ["detection"]}
    predictor = torch.hub.load(ROOT, "predictor", str(saved.path), source="local", **settings)
    assert predictor(str(saved.images[0])).instances is not None
