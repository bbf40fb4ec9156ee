"""Semantic metrics of letterboxed images: padding is cropped, pixels keep their positions."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.modeling.factory import tiny_model
from yolor_d2.data.views.transforms import long_side_size
from yolor_d2.evaluation import semantic
from yolor_d2.evaluation.semantic import SemanticEvaluator
from yolor_d2.letterbox import PAD_VALUE

from .test_semantic import register_maps

CLASSES = [*"abcd", "padding"]
STEP = 10  # between the gray levels of the classes
STRIDE = 4  # of the logits
SIZES = [(77, 56), (56, 77)]  # heights and widths of the images
LONG_SIDE, CANVAS = 51, 64  # images of 51 x 37 pixels on the canvas
# Padding before a side of the image, by its length.
OFFSETS = {"corner": {51: 0, 37: 0}, "center": {51: 6, 37: 13}}


def pattern(height: int, width: int) -> np.ndarray:
    """Labels of the resized image; any four adjacent cells have different labels."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    return 2 * (rows // STRIDE % 2) + columns // STRIDE % 2


def logits_of_gray_levels(features: dict[str, Tensor]) -> Tensor:
    """Logits of the class in the center of each cell, very large for padding."""
    gray = features["canvas"][:, 0, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]  # (N, h, w)
    padding = gray == PAD_VALUE
    labels = torch.where(padding, len(CLASSES) - 1, gray // STEP).long()
    logits = F.one_hot(labels, len(CLASSES)) * torch.where(padding, 1e4, 1.0)[..., None]
    return logits.permute(0, 3, 1, 2)  # (N, S, h, w)


def nearest_cell(pixels: int, *, resized: int, pad: str) -> np.ndarray:
    """Along one axis: the pixel of the resized image whose label each image pixel gets.

    It is the center of the nearest cell among those whose center is in the image.
    """
    offset = OFFSETS[pad][resized]
    centers = np.arange(STRIDE // 2, CANVAS, STRIDE)
    centers = centers[(centers >= offset) & (centers < offset + resized)] - offset
    positions = (np.arange(pixels) + 0.5) * resized / pixels
    return centers[np.abs(positions[:, None] - centers).argmin(axis=1)]


def expected_labels(height: int, width: int, pad: str) -> np.ndarray:
    resized_width, resized_height = long_side_size(width=width, height=height, size=LONG_SIDE)
    rows = nearest_cell(height, resized=resized_height, pad=pad)
    columns = nearest_cell(width, resized=resized_width, pad=pad)
    return pattern(resized_height, resized_width)[np.ix_(rows, columns)]


def sample(height: int, width: int) -> dict:
    """Sample of the mapper: an image in the gray levels of its classes."""
    resized_width, resized_height = long_side_size(width=width, height=height, size=LONG_SIDE)
    image = torch.from_numpy(STEP * pattern(resized_height, resized_width)).to(torch.uint8)
    return {"image": image.expand(3, -1, -1), "height": height, "width": width}


@pytest.mark.parametrize("full_logits", [False, True])
@pytest.mark.parametrize("pad", OFFSETS)
def test_letterboxed_maps_are_scored_at_image_positions(
    catalogs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pad: str, full_logits: bool
) -> None:
    options = ("MODEL.YOLOR.PAD", pad, "MODEL.SEM_SEG_HEAD.FULL_LOGITS", full_logits)
    model = tiny_model(("semantic",), *options).eval()
    monkeypatch.setattr(model, "extract", lambda images, names: {"canvas": images})
    monkeypatch.setattr(model, "semantic_logits", logits_of_gray_levels)
    rng = np.random.default_rng(0)
    truth = [rng.choice([0, 1, 2, 3, 255], size).astype(np.uint8) for size in SIZES]
    records = register_maps(tmp_path / "maps", truth, CLASSES)
    batch = [{**sample(*size), **record} for size, record in zip(SIZES, records, strict=True)]
    confusions = []
    monkeypatch.setattr(
        semantic, "draw_confusion", lambda path, table, names: confusions.append(table)
    )
    evaluator = SemanticEvaluator("maps", output_dir=str(tmp_path), plots=True)

    outputs = model(batch)
    evaluator.process(batch, outputs)
    results = evaluator.evaluate()["sem_seg"]

    expected = np.zeros((len(CLASSES), len(CLASSES)), int)
    for size, output, labels in zip(SIZES, outputs, truth, strict=True):
        correct = expected_labels(*size, pad)
        assert isinstance(output["sem_seg"], Tensor) == full_logits
        assert np.array_equal(output["sem_seg"].argmax(dim=0).numpy(), correct)
        np.add.at(expected, (labels[labels < 255], correct[labels < 255]), 1)
    assert np.array_equal(confusions, [expected])
    assert np.isnan(results["IoU-padding"])
    assert results["pACC"] == pytest.approx(100 * expected.trace() / expected.sum())
