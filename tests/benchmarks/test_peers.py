"""Training of networks of several packages on the same images."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from benchmarks.__main__ import main
from benchmarks.peer_torchvision import TorchvisionMaskRCNN
from benchmarks.peers import train_loader


@pytest.mark.slow
def test_all_learn_from_the_same_images(
    tmp_path: Path, toy_sets: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = tmp_path / "numbers.json"
    sets = ["--train", toy_sets[0], "--test", toy_sets[1]]
    main(["peers", *sets, "--size", "64", "--batch", "2", "--images", "4", "--json", str(numbers)])
    rows = json.loads(numbers.read_text())["peers"]["rows"]
    assert list(rows) == ["ours", "ours-four-tasks", "detectron2", "torchvision"]
    for row in rows.values():
        assert row["images seen"] == 4
        assert 0 <= row["mask AP"] <= 100
    assert "trained from scratch, 64 px, seed 1" in capsys.readouterr().out


def test_order_follows_from_the_seed(toy_sets: tuple[str, str]) -> None:
    def first(seed: int) -> list[str]:
        loader = train_loader(toy_sets[0], size=64, batch=4, seed=seed)
        return [sample["file_name"] for sample in next(iter(loader))]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_torchvision_with_the_interface_of_detectron2() -> None:
    model = TorchvisionMaskRCNN(classes=3, size=64, anchors=(8, 16, 32, 64, 128))
    instances = Instances((48, 64))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    instances.gt_classes = torch.tensor([2])
    masks = torch.zeros(1, 48, 64, dtype=torch.bool)
    masks[:, 8:40, 8:40] = True
    instances.gt_masks = BitMasks(masks)
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    sample = {"image": image, "instances": instances, "height": 96, "width": 128}
    losses = model.train()([sample])
    assert {"loss_classifier", "loss_mask", "loss_objectness"} <= losses.keys()
    with torch.no_grad():
        found = model.eval()([sample])[0]["instances"]
    assert found.image_size == (96, 128)
    assert found.pred_masks.shape == (len(found), 96, 128)
    assert found.pred_boxes.tensor.shape == (len(found), 4)
    assert bool((found.pred_classes < 3).all())
