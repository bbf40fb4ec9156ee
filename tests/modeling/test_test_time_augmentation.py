"""Test-time augmentation: detections of views are mapped back to the image."""

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from pycocotools import mask as coco_mask
from torch import nn

from tests.modeling.factory import random_batch, tiny_config, tiny_model
from yolor_d2.modeling.test_time_augmentation import TestTimeAugmentation
from yolor_d2.structures import RLEMasks

from ..evaluation.predictions import make_instances

HEIGHT, WIDTH = 60, 80


class BlobDetector(nn.Module):
    """Detects the white rectangle of an image, and with `ghost` a second box in mirrored views."""

    def __init__(self, *, run_lengths: bool = False, ghost: bool = False) -> None:
        super().__init__()
        self.run_lengths = run_lengths
        self.ghost = ghost
        self.sizes: list[tuple[int, int]] = []

    def forward(self, batch: list[dict]) -> list[dict]:
        return [self.one(sample) for sample in batch]

    def one(self, sample: dict) -> dict:
        image = sample["image"]
        height, width = sample["height"], sample["width"]
        self.sizes.append(tuple(image.shape[1:]))
        rows, columns = (image[0] > 128).nonzero(as_tuple=True)
        x_scale, y_scale = width / image.shape[2], height / image.shape[1]
        x0, x1 = int(columns.min()) * x_scale, (int(columns.max()) + 1) * x_scale
        y0, y1 = int(rows.min()) * y_scale, (int(rows.max()) + 1) * y_scale
        boxes, scores = [[x0, y0, x1, y1]], [0.5 + image.shape[1] / 1000]
        if self.ghost and columns.float().mean() > image.shape[2] / 2:
            boxes.append([0, 0, 10, 20])
            scores.append(0.9)
        masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
            mask[round(top) : round(bottom), round(left) : round(right)] = True
            mask[round(top), round(left)] = False  # not symmetric
        instances = make_instances((height, width), boxes, [0] * len(boxes), scores, masks)
        if self.run_lengths:
            instances.pred_masks = rles(masks)
        return {"instances": instances, "sem_seg": image, "caption": "a blob"}


def rles(masks: torch.Tensor) -> RLEMasks:
    encoded = [coco_mask.encode(np.asfortranarray(m.numpy().astype(np.uint8))) for m in masks]
    return RLEMasks(
        [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in encoded],
        *masks.shape[1:],
    )


def sample(height: int = HEIGHT, width: int = WIDTH) -> dict:
    """An image of 80 x 60 with a white rectangle: x 8..24, y 12..48."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    rows, columns = (int(v * height / 60) for v in (12, 48)), (int(v * width / 80) for v in (8, 24))
    image[:, slice(*rows), slice(*columns)] = 255
    return {"image": image, "height": HEIGHT, "width": WIDTH}


BOX = [8, 12, 24, 48]


@pytest.mark.parametrize("run_lengths", [False, True])
def test_detections_of_a_mirrored_view_are_mirrored_back(run_lengths: bool) -> None:
    model = BlobDetector(run_lengths=run_lengths, ghost=True)
    result = TestTimeAugmentation(model)([sample()])[0]

    instances = result["instances"]
    assert instances.pred_boxes.tensor.tolist() == [[70, 0, 80, 20], BOX]
    assert instances.scores.tolist() == pytest.approx([0.9, 0.56])
    assert isinstance(instances.pred_masks, RLEMasks) == run_lengths
    mirrored, plain = torch.from_numpy(np.asarray(instances.pred_masks))
    assert mirrored.nonzero().aminmax(dim=0).max.tolist() == [19, 79]
    assert (mirrored.sum(), plain.sum()) == (10 * 20 - 1, 16 * 36 - 1)
    assert not mirrored[0, 79], "the mask of a mirrored view is mirrored back"
    assert not plain[12, 8]


def test_detections_of_resized_views_are_mapped_back() -> None:
    model = BlobDetector()
    result = TestTimeAugmentation(model, sizes=(40, 80, 160))([sample()])[0]

    assert model.sizes == [(60, 80), (30, 40), (30, 40), (60, 80), (120, 160), (120, 160)]
    instances = result["instances"]
    assert len(instances) == 1  # of the largest view, which has the highest score
    assert instances.scores.tolist() == pytest.approx([0.62])
    assert torch.allclose(instances.pred_boxes.tensor, torch.tensor([BOX]).float(), atol=1)


def test_other_results_are_those_of_the_original_image() -> None:
    batch = [sample(), sample(30, 40)]
    results = TestTimeAugmentation(BlobDetector(), sizes=(160,))(batch)
    for result, item in zip(results, batch, strict=True):
        assert result["sem_seg"] is item["image"]
        assert result["caption"] == "a blob"
        assert torch.allclose(result["instances"].pred_boxes.tensor, torch.tensor([BOX]).float())


class Fixed(nn.Module):
    """Returns given instances, view by view."""

    def __init__(self, views: list[Instances]) -> None:
        super().__init__()
        self.views = views

    def forward(self, batch: list[dict]) -> list[dict]:
        return [{"instances": self.views.pop(0)} for _ in batch]


def test_detections_of_a_class_are_suppressed_across_views() -> None:
    boxes = [[0, 0, 40, 40], [1, 0, 41, 40], [0, 0, 40, 40], [50, 50, 60, 60]]
    plain = make_instances((HEIGHT, WIDTH), boxes, [0, 0, 1, 0], [0.9, 0.95, 0.7, 0.6])
    nothing = make_instances((HEIGHT, WIDTH))

    merged = TestTimeAugmentation(Fixed([plain, nothing]))([sample()])[0]["instances"]
    two = TestTimeAugmentation(Fixed([plain, nothing]), max_detections=2)([sample()])[0]

    assert merged.scores.tolist() == pytest.approx([0.95, 0.7, 0.6])
    assert merged.pred_classes.tolist() == [0, 1, 0]
    assert two["instances"].scores.tolist() == pytest.approx([0.95, 0.7])


def test_other_heads_run_once_and_are_restored() -> None:
    model = tiny_model().eval()
    calls = []
    for name in ("backbone", "caption_head"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    image = random_batch(seed=0)[0]["image"][:, :50, :70]
    augmented = TestTimeAugmentation.from_config(tiny_config(), model)

    result = augmented([{"image": image, "height": 100, "width": 140}])[0]

    assert [calls.count(name) for name in ("backbone", "caption_head")] == [2, 1]
    assert result["instances"].pred_masks.shape[1:] == (100, 140)
    assert {"sem_seg", "panoptic_seg", "caption_ids"} <= result.keys()
    assert set(model.heads) == {"detection", "mask", "semantic", "caption"}


def test_settings_come_from_the_configuration() -> None:
    cfg = tiny_config(("detection",), "TEST.TTA.SIZES", [320, 640], "TEST.TTA.FLIP", False)
    augmented = TestTimeAugmentation.from_config(cfg, nn.Identity())
    assert augmented.views == [(320, False), (640, False)]
    assert augmented.max_detections == cfg.TEST.DETECTIONS_PER_IMAGE
    with pytest.raises(ValueError, match=r"TEST\.TTA"):
        TestTimeAugmentation.from_config(tiny_config(("semantic",)), nn.Identity())
