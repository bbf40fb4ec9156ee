"""Semantic maps of padded images: the pixels of the image count, each at its place."""

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
STEP = 10  # between the grey levels of the classes
STRIDE = 4  # of the logits
SIZES = [(77, 56), (56, 77)]  # heights and widths of the images
LONG_SIDE, CANVAS = 51, 64  # 51 x 37 pixels go onto the canvas
# Padding before each side, by its length.
OFFSETS = {"corner": {51: 0, 37: 0}, "center": {51: 6, 37: 13}}


def pattern(height: int, width: int) -> np.ndarray:
    """Labels of the pixels that the model sees; any four cells that meet have different ones."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    return 2 * (rows // STRIDE % 2) + columns // STRIDE % 2


def read_off(features: dict[str, Tensor]) -> Tensor:
    """Logits of what the pixel in the middle of each cell is; very sure of the padding."""
    grey = features["canvas"][:, 0, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]  # (N, h, w)
    padding = grey == PAD_VALUE
    labels = torch.where(padding, len(CLASSES) - 1, grey // STEP).long()
    logits = F.one_hot(labels, len(CLASSES)) * torch.where(padding, 1e4, 1.0)[..., None]
    return logits.permute(0, 3, 1, 2)  # (N, S, h, w)


def nearest_cell(pixels: int, *, seen: int, pad: str) -> np.ndarray:
    """Along one axis: which pixel that the model saw tells what each pixel of the image is.

    It is in the middle of the nearest cell among those whose middle is in the image.
    """
    offset = OFFSETS[pad][seen]
    middles = np.arange(STRIDE // 2, CANVAS, STRIDE)
    middles = middles[(middles >= offset) & (middles < offset + seen)] - offset
    places = (np.arange(pixels) + 0.5) * seen / pixels
    return middles[np.abs(places[:, None] - middles).argmin(axis=1)]


def expected_labels(height: int, width: int, pad: str) -> np.ndarray:
    seen_width, seen_height = long_side_size(width=width, height=height, size=LONG_SIDE)
    rows = nearest_cell(height, seen=seen_height, pad=pad)
    columns = nearest_cell(width, seen=seen_width, pad=pad)
    return pattern(seen_height, seen_width)[np.ix_(rows, columns)]


def sample(height: int, width: int) -> dict:
    """As the mapper makes it: an image in the grey levels of its classes."""
    seen_width, seen_height = long_side_size(width=width, height=height, size=LONG_SIDE)
    image = torch.from_numpy(STEP * pattern(seen_height, seen_width)).to(torch.uint8)
    return {"image": image.expand(3, -1, -1), "height": height, "width": width}


@pytest.mark.parametrize("full_logits", [False, True])
@pytest.mark.parametrize("pad", OFFSETS)
def test_each_pixel_of_the_image_counts_at_its_place(
    catalogues: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pad: str, full_logits: bool
) -> None:
    options = ("MODEL.YOLOR.PAD", pad, "MODEL.SEM_SEG_HEAD.FULL_LOGITS", full_logits)
    model = tiny_model(("semantic",), *options).eval()
    monkeypatch.setattr(model, "extract", lambda images, names: {"canvas": images})
    monkeypatch.setattr(model, "semantic_logits", read_off)
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
        right = expected_labels(*size, pad)
        assert isinstance(output["sem_seg"], Tensor) == full_logits
        assert np.array_equal(output["sem_seg"].argmax(dim=0).numpy(), right)
        np.add.at(expected, (labels[labels < 255], right[labels < 255]), 1)
    assert np.array_equal(confusions, [expected])
    assert np.isnan(results["IoU-padding"])
    assert results["pACC"] == pytest.approx(100 * expected.trace() / expected.sum())
