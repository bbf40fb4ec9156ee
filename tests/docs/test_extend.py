"""Runs the code of docs/guides/extend.md and docs/reference/heads.md."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from yolor_d2.modeling.objects import Objects
from yolor_d2.toy_scenes.builtin import register_toy_scenes
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from ..data.coco_files import restored_catalogs
from .documents import Names, run_blocks

TRAIN = "toy_scenes_train"


class FeatureInfo:
    def channels(self) -> list[int]:
        return [4, 8, 8, 16, 16]

    def reduction(self) -> list[int]:
        return [2, 4, 8, 16, 32]


class TimmNetwork(nn.Module):
    """Stands for a network of timm, which is not installed: its interface, few channels."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = FeatureInfo()
        steps = pairwise([3, *self.feature_info.channels()])
        self.stages = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in steps)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def create_model(name: str, *, features_only: bool, pretrained: bool) -> TimmNetwork:
    assert (name, features_only, pretrained) == ("convnext_tiny", True, True)
    return TimmNetwork()


@pytest.fixture(scope="module")
def toy_scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The current folder has toy scenes, which are registered; timm is replaced."""
    folder = tmp_path_factory.mktemp("extend")
    scenes = folder / "datasets/toy_scenes"
    generate_toy_scenes(scenes, train=16, val=4, progress=False)
    with restored_catalogs(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
        DatasetCatalog.remove(TRAIN)
        for name in (TRAIN, f"{TRAIN}_panoptic"):
            MetadataCatalog.remove(name)
        register_toy_scenes(TRAIN, scenes, "train")
        yield


def run(document: str) -> Names:
    """Run a document's Python blocks and return their variables."""
    names: Names = {"__name__": "extend"}
    torch.manual_seed(0)
    run_blocks(document, names)
    return names


@pytest.fixture(scope="module")
def names(toy_scenes: None) -> Names:
    return run("docs/guides/extend.md")


@pytest.fixture(scope="module")
def heads(toy_scenes: None) -> Names:
    return run("docs/reference/heads.md")


def test_the_model(names: Names) -> None:
    assert len(names["batch"]) == 4
    assert {"loss_cls", "loss_mask", "loss_sem_focal", "loss_caption"} <= names["losses"].keys()
    assert names["predicted"].image_size == (240, 320)


def test_another_backbone(names: Names) -> None:
    pan = names["timm_pan"]
    maps = pan(torch.zeros(2, 3, 64, 96))
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        "p3": (2, 64, 8, 12),
        "p4": (2, 128, 4, 6),
        "p5": (2, 256, 2, 3),
    }


def test_another_head(names: Names) -> None:
    assert type(names["cautious"].detection_head).__name__ == "CautiousHead"


def test_heads_from_scratch_train_and_predict(heads: Names) -> None:
    model, batch = heads["own_model"].train(), heads["batch"]
    expected = {"loss_cls", "loss_box", "loss_mask", "loss_sem_seg", "loss_caption"}
    assert set(heads["own_losses"]) == expected
    sum(heads["own_losses"].values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    result = heads["own_result"]
    assert result["instances"].pred_masks.shape == (len(result["instances"]), 240, 320)
    assert {"sem_seg", "panoptic_seg", "caption_ids"} <= result.keys()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    before = sum(model(batch).values()).item()
    for _ in range(10):
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
    after = model(batch)
    assert sum(after.values()).item() < 0.8 * before


def test_heads_from_scratch_ignore_what_is_not_annotated(heads: Names) -> None:
    model = heads["own_model"].train()
    batch = [{"weak_image": sample["weak_image"]} for sample in heads["batch"]]
    losses = model(batch)
    assert all(loss.item() == 0 and loss.requires_grad for loss in losses.values())


def test_new_task_is_learned(names: Names, heads: Names) -> None:
    model, batch = heads["counting"].train(), heads["batch"]
    assert set(heads["first_losses"]) == {*names["losses"], "loss_count"}
    assert heads["counted"].shape == (10,)
    optimizer = torch.optim.AdamW(model.count_head.parameters(), lr=0.05)
    values = []
    for _ in range(8):
        loss = model(batch)["loss_count"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.1


def test_unlabeled_images_have_no_count_loss(heads: Names) -> None:
    head = heads["CountHead"](8, 3)
    counts = head({"p5": torch.rand(2, 8, 1, 1)})
    nothing = Objects.from_instances([None, None], device=torch.device("cpu"))
    loss = head.losses(counts, nothing)["loss_count"]
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in head.parameters())


def test_results_belong_to_their_images(heads: Names) -> None:
    """Images of two canvas sizes, which the network processes separately."""
    model = heads["counting"].eval()
    images = [torch.full((3, side, 64), 40 + side, dtype=torch.uint8) for side in (64, 128, 64)]
    together = model([{"image": image} for image in images])
    for image, result in zip(images, together, strict=True):
        alone = model([{"image": image}])[0]["counts"]
        torch.testing.assert_close(result["counts"], alone, atol=1e-4, rtol=1e-4)


def test_the_backbone(names: Names) -> None:
    assert names["shapes"]["p3"].channels == names["maps"]["p3"].shape[1] == 64


def test_mapper_for_other_architectures(names: Names) -> None:
    full_size, plain = names["full_size"], names["plain"]
    assert "weak_image" not in full_size
    assert full_size["image"].shape == (3, 128, 128)
    assert full_size["instances"].gt_masks.tensor.shape[1:] == (128, 128)
    assert plain["image"].shape == (3, 240, 320)
    assert plain["instances"].has("gt_masks")
