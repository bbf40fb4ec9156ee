"""Resampling semantic logits to the image, against upsampling, cropping and resizing."""

import json
import math
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from torch import Tensor

from yolor_d2.letterbox import Content
from yolor_d2.modeling.heads.semantic import maps as semantic_maps
from yolor_d2.modeling.heads.semantic.maps import labels_at, labels_with_probabilities_at, logits_at
from yolor_d2.structures import SemanticMap

from ....resizing import maps_to_image


def random_logits(classes: int, height: int, width: int, *, smooth: int = 1) -> Tensor:
    """Noise, upsampled by a factor of `smooth`."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(1, classes, height // smooth, width // smooth, generator=generator)
    return F.interpolate(small, size=(height, width), mode="bicubic")[0]


def two_steps(
    logits: Tensor, content: Content, canvas: tuple[int, int], height: int, width: int
) -> Tensor:
    """As detectron2 does: upsample to the canvas, crop the padding, resize to the image."""
    full = F.interpolate(logits[None], size=canvas, mode="bilinear", align_corners=False)
    return maps_to_image(full, content, width=width, height=height)[0]


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_an_image_of_the_size_of_the_canvas_equals_upsampling(stride: int) -> None:
    logits = random_logits(7, 64 // stride, 320 // stride)
    content, size = Content(0, 0, 320, 64), {"canvas": (64, 320), "height": 64, "width": 320}
    expected = two_steps(logits, content, **size)
    torch.testing.assert_close(logits_at(logits, content, **size), expected, rtol=0, atol=1e-5)
    labels = labels_at(logits, content, **size)
    assert labels.dtype == torch.uint8
    # Rounding may change the label where two classes have nearly equal logits.
    differs = labels != expected.argmax(dim=0)
    best = expected.topk(2, dim=0).values
    assert (best[0] - best[1])[differs].max().item() < 1e-5 if differs.any() else True


@pytest.mark.parametrize(
    ("content", "height", "width"),
    [
        (Content(0, 0, 320, 213), 427, 640),  # the content ends inside a cell
        (Content(0, 21, 320, 213), 427, 640),
        (Content(41, 0, 239, 256), 1024, 956),
        (Content(0, 0, 320, 240), 100, 133),
    ],
)
def test_padded_images_are_close_to_two_steps(content: Content, height: int, width: int) -> None:
    logits = random_logits(5, 64, 80, smooth=8)
    size = {"canvas": (256, 320), "height": height, "width": width}
    expected = two_steps(logits, content, **size)
    found = logits_at(logits, content, **size)
    assert found.shape == expected.shape
    difference = (found - expected).abs()
    # Two steps blend padding into the border of the image, at most one cell wide.
    border = math.ceil(4 * max(height / content.height, width / content.width))
    assert difference[:, border:-border, border:-border].max() < 0.05
    assert difference.mean() < 0.005
    labels = labels_at(logits, content, **size)
    assert (labels == expected.argmax(dim=0)).float().mean() > 0.99
    assert torch.equal(labels.long(), found.argmax(dim=0))


def test_positions_by_hand() -> None:
    # A ramp along x with value k at the center of cell k, stride 4; the image is scaled by 2.
    logits = torch.arange(10.0).expand(1, 6, 10)
    content = Content(8, 4, 20, 12)
    found = logits_at(logits, content, canvas=(24, 40), height=24, width=40)
    x = 8 + (torch.arange(40) + 0.5) / 2  # positions of the image's pixels on the canvas
    expected = (x / 4 - 0.5).clamp(2, 6)  # cells 2 to 6 have their centers in the image
    torch.testing.assert_close(found, expected.expand(1, 24, 40))


def test_padding_has_no_influence() -> None:
    logits = random_logits(4, 16, 16)
    content = Content(10, 0, 37, 49)
    size = {"canvas": (64, 64), "height": 98, "width": 74}
    before = logits_at(logits, content, **size)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[:12, 2:12] = True  # centers from 10 to 42 and from 2 to 46
    after = logits_at(logits.masked_fill(~inside, 1e4), content, **size)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("content", [Content(0, 3, 1, 1), Content(63, 62, 1, 1)])
def test_an_image_of_one_pixel_has_a_label(content: Content) -> None:
    logits = random_logits(4, 16, 16)
    found = logits_at(logits, content, canvas=(64, 64), height=2, width=1)
    cell = logits[:, content.top // 4, content.left // 4]
    torch.testing.assert_close(found, cell[:, None, None].expand(4, 2, 1))


def test_tile_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = random_logits(6, 32, 48)
    size = {"canvas": (128, 192), "height": 111, "width": 301}
    content = Content(0, 5, 192, 71)
    whole = logits_at(logits, content, **size)
    monkeypatch.setattr(semantic_maps, "TILE_ROWS", 7)
    monkeypatch.setattr(semantic_maps, "TILE_COLUMNS", 13)
    torch.testing.assert_close(logits_at(logits, content, **size), whole, rtol=0, atol=1e-5)


def test_memory_is_bounded_for_a_large_image() -> None:
    logits = random_logits(20, 40, 40)
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        labels_at(logits, Content(0, 0, 160, 120), canvas=(160, 160), height=1500, width=2000)
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest <= 1500 * 2000  # the labels themselves; all logits would be 240 MB


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_of_logits(dtype: torch.dtype) -> None:
    logits = random_logits(5, 16, 16).to(dtype)
    size = {"canvas": (64, 64), "height": 50, "width": 64}
    content = Content(0, 0, 64, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, labels = logits_at(logits, content, **size), labels_at(logits, content, **size)
    assert found.dtype == dtype
    wide = logits.double()
    torch.testing.assert_close(found, logits_at(wide, content, **size).to(dtype))
    assert (labels == labels_at(wide, content, **size)).float().mean() > 0.99


def test_probabilities_of_labels() -> None:
    """Those of the logits at the image, where these are one tensor."""
    logits, content = random_logits(6, 32, 48), Content(0, 5, 192, 71)
    size = {"canvas": (128, 192), "height": 111, "width": 301}
    labels, probabilities = labels_with_probabilities_at(logits, content, **size)
    assert (labels == labels_at(logits, content, **size)).all()
    expected = logits_at(logits, content, **size).softmax(dim=0).amax(dim=0)
    torch.testing.assert_close(probabilities, expected)
    moved = SemanticMap(labels, 6, probabilities).to("cpu")
    assert moved.probabilities is not None
    assert (moved.probabilities == probabilities).all()


def test_more_than_256_classes() -> None:
    logits = torch.zeros(300, 2, 2)
    logits[299] = 1
    labels = labels_at(logits, Content(0, 0, 8, 8), canvas=(8, 8), height=3, width=3)
    assert labels.dtype == torch.int64
    assert (labels == 299).all()


def test_semantic_map_has_the_interface_of_logits() -> None:
    labels = torch.tensor([[3, 0], [1, 254]], dtype=torch.uint8)
    predicted = SemanticMap(labels, 255)
    logits = F.one_hot(labels.long(), 255).permute(2, 0, 1)
    assert predicted.shape == logits.shape
    for copy in (
        predicted,
        predicted.to("cpu"),
        predicted.cpu(),
        predicted.to(torch.device("cpu")),
    ):
        assert torch.equal(copy.argmax(dim=0), logits.argmax(dim=0))
        assert copy.argmax(0).dtype == torch.int64
    assert predicted.to("meta").labels.device.type == "meta"
    restored = pickle.loads(pickle.dumps(predicted))
    assert torch.equal(restored.labels, labels)
    assert restored.num_classes == 255
    with pytest.raises(ValueError, match="dimension 1"):
        predicted.argmax(dim=1)


def test_detectron2_evaluates_a_semantic_map(tmp_path: Path) -> None:
    truth = np.array([[0, 0, 1], [2, 255, 1]], np.uint8)
    cv2.imwrite(str(tmp_path / "truth.png"), truth)
    name = f"semantic_map_{tmp_path.name}"
    record = {"file_name": "image.jpg", "sem_seg_file_name": str(tmp_path / "truth.png")}
    DatasetCatalog.register(name, lambda: [record])
    try:
        MetadataCatalog.get(name).set(stuff_classes=["a", "b", "c"], ignore_label=255)
        evaluator = SemSegEvaluator(name, distributed=False, output_dir=str(tmp_path))
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    evaluator.reset()
    predicted = torch.tensor([[0, 1, 1], [2, 0, 1]], dtype=torch.uint8)
    evaluator.process([record], [{"sem_seg": SemanticMap(predicted, 3)}])
    result = evaluator.evaluate()["sem_seg"]
    assert result["IoU-a"] == pytest.approx(50)
    assert result["IoU-b"] == pytest.approx(200 / 3)
    assert result["IoU-c"] == pytest.approx(100)
    written = json.loads((tmp_path / "sem_seg_predictions.json").read_text())
    assert [entry["category_id"] for entry in written] == [0, 1, 2]
