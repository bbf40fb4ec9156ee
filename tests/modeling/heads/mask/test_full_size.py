"""Masks at the size of the image, against published masks and masks of full frames."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torch import Tensor

from yolor_d2.letterbox import Content, pad_images
from yolor_d2.modeling.heads.mask.full_size import FORMATS, RESOLUTIONS, full_masks
from yolor_d2.structures import RLEMasks

from ....resizing import maps_to_image
from ...golden import golden_arrays

STRIDE = 4
# Content, canvas (width, height) and image (width, height).
FRAMES = [
    (Content(0, 0, 96, 64), (96, 64), (96, 64)),
    (Content(0, 0, 47, 33), (64, 64), (94, 66)),
    (Content(8, 15, 47, 33), (64, 64), (133, 80)),
    (Content(0, 0, 160, 96), (160, 96), (1333, 800)),
    (Content(0, 12, 160, 96), (160, 128), (31, 19)),
    (Content(0, 0, 64, 64), (64, 64), (1, 1)),
]


def objects(canvas: tuple[int, int], number: int = 12, seed: int = 0) -> tuple[Tensor, ...]:
    """Coefficients, smooth prototypes and boxes, some of which extend beyond the canvas."""
    rng = torch.Generator().manual_seed(seed)
    width, height = canvas
    coarse = torch.randn(1, 8, height // 16, width // 16, generator=rng)
    size = (height // STRIDE, width // STRIDE)
    prototypes = F.interpolate(coarse, size=size, mode="bicubic")[0]  # (K, h, w)
    sides = torch.tensor([width, height])
    begin = (torch.rand(number, 2, generator=rng) * 1.2 - 0.2) * sides
    end = begin + torch.rand(number, 2, generator=rng) * sides
    boxes = torch.cat([begin, end], dim=1)
    boxes[0] = torch.tensor([0, 0, width, height])
    boxes[1] = torch.tensor([5.0, 5, 5, 5])
    return 2 * torch.randn(number, 8, generator=rng), prototypes, boxes


def masks_of(
    predictions: tuple[Tensor, ...],
    content: Content,
    image: tuple[int, int],
    resolution: str = "input",
    mask_format: str = "dense",
) -> Any:
    return full_masks(
        *predictions,
        stride=STRIDE,
        content=content,
        width=image[0],
        height=image[1],
        resolution=resolution,
        mask_format=mask_format,
    )


def inside(boxes: Tensor, width: int, height: int) -> Tensor:
    x, y = torch.arange(width), torch.arange(height)[:, None]
    left, top, right, bottom = boxes[:, :, None, None].unbind(1)
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)  # (D, height, width)


def probabilities(coefficients: Tensor, prototypes: Tensor) -> Tensor:
    return torch.einsum("dk,khw->dhw", coefficients, prototypes).sigmoid()


def full_frames(
    predictions: tuple[Tensor, ...], content: Content, image: tuple[int, int]
) -> Tensor:
    """Masks before the last threshold at "input" resolution, computed for whole frames."""
    coefficients, prototypes, boxes = predictions
    maps = probabilities(coefficients, prototypes)[None]
    canvas = F.interpolate(maps, scale_factor=STRIDE, mode="bilinear")[0] > 0.5
    canvas &= inside(boxes, canvas.shape[2], canvas.shape[1])
    return maps_to_image(canvas[None].float(), content, width=image[0], height=image[1])[0]


def sampled(predictions: tuple[Tensor, ...], content: Content, image: tuple[int, int]) -> Tensor:
    """Probabilities at "fast" resolution, by sampling the grid at the centers of pixels."""
    coefficients, prototypes, boxes = predictions
    height, width = prototypes.shape[1:]
    cropped = probabilities(coefficients, prototypes) * inside(boxes / STRIDE, width, height)
    x = content.left + (torch.arange(image[0]) + 0.5) * content.width / image[0]
    y = content.top + (torch.arange(image[1]) + 0.5) * content.height / image[1]
    x, y = 2 * x / (width * STRIDE) - 1, 2 * y / (height * STRIDE) - 1
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    return F.grid_sample(cropped[None], points, padding_mode="border", align_corners=False)[0]


@pytest.mark.parametrize("mask_format", FORMATS)
@pytest.mark.parametrize(("route", "resolution"), [("upsample", "input"), ("cropfirst", "fast")])
@pytest.mark.parametrize("kind", ["multi", "best"])
def test_published_masks(
    kind: str, route: str, resolution: str, mask_format: str, shared_dir: Path
) -> None:
    golden = golden_arrays(shared_dir, "yolov7_af_pan")
    pred = torch.from_numpy(golden["64x96/pred"])[0].T  # (A, 116)
    number = int(golden[f"64x96/masks_{kind}_n"])
    boxes = torch.from_numpy(golden[f"64x96/nms_{kind}"])[:number, :4]
    center, half = pred[:, :2], pred[:, 2:4] / 2
    distance = torch.cdist(boxes, torch.cat([center - half, center + half], dim=1))
    predictions = (
        pred[distance.argmin(dim=1), 84:],
        torch.from_numpy(golden["64x96/proto"])[0],
        boxes,
    )
    found = masks_of(predictions, Content(0, 0, 96, 64), (96, 64), resolution, mask_format)
    bits = np.unpackbits(golden[f"64x96/masks_{kind}_{route}"])[: number * 64 * 96]
    assert 0 < bits.sum() < bits.size
    assert np.array_equal(np.asarray(found), bits.reshape(number, 64, 96))


@pytest.mark.parametrize(("content", "canvas", "image"), FRAMES)
def test_windows_equal_full_frames(
    content: Content, canvas: tuple[int, int], image: tuple[int, int]
) -> None:
    predictions = objects(canvas)
    for resolution, frames in (("input", full_frames), ("fast", sampled)):
        values = frames(predictions, content, image)
        clear = (values - 0.5).abs() > 1e-4
        assert clear.float().mean() > 0.9
        assert (values > 0.5).any()
        found = masks_of(predictions, content, image, resolution)
        assert found.shape == values.shape
        assert torch.equal(found[clear], (values > 0.5)[clear])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 90), st.integers(1, 90), st.sampled_from(RESOLUTIONS))
def test_run_lengths_are_those_of_pycocotools(
    seed: int, width: int, height: int, resolution: str
) -> None:
    predictions = objects((64, 64), number=4, seed=seed)
    _, (content, _) = pad_images(
        [torch.zeros(3, min(height, 64), min(width, 64)), torch.zeros(3, 64, 64)], mode="center"
    )
    dense = masks_of(predictions, content, (width, height), resolution)
    runs = masks_of(predictions, content, (width, height), resolution, "rle")
    assert isinstance(runs, RLEMasks)
    assert np.array_equal(np.asarray(runs), dense)
    for rle, mask in zip(runs.rles, dense.numpy().astype(np.uint8), strict=True):
        expected = coco_mask.encode(np.asfortranarray(mask))
        assert rle == {"size": [height, width], "counts": expected["counts"].decode()}


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("mask_format", FORMATS)
def test_no_detections_and_boxes_outside_the_image(resolution: str, mask_format: str) -> None:
    coefficients, prototypes, boxes = objects((64, 64), number=3)
    none = (coefficients[:0], prototypes, boxes[:0])
    content, image = Content(0, 0, 32, 40), (64, 80)
    assert np.asarray(masks_of(none, content, image, resolution, mask_format)).shape == (0, 80, 64)
    boxes = torch.tensor([[40.0, 0, 60, 30], [0, 44, 20, 60], [-30, -30, -5, -5]])
    outside = (coefficients + 50, prototypes.abs(), boxes)
    found = np.asarray(masks_of(outside, content, image, resolution, mask_format))
    assert found.shape == (3, 80, 64)
    assert not found.any()


def test_a_mask_of_the_whole_image() -> None:
    """Its run continues from column to column up to the end of the image."""
    predictions = (torch.ones(1, 1), torch.full((1, 16, 16), 9.0), torch.tensor([[0, 0, 64, 64.0]]))
    for resolution in RESOLUTIONS:
        assert masks_of(predictions, Content(0, 0, 64, 64), (7, 5), resolution).all()
        runs = masks_of(predictions, Content(0, 0, 64, 64), (7, 5), resolution, "rle")
        full = coco_mask.encode(np.ones((5, 7), np.uint8, order="F"))
        assert runs.rles[0]["counts"] == full["counts"].decode()


def test_a_pixel_is_inside_a_box_by_its_index() -> None:
    everywhere = (torch.ones(1, 1), torch.full((1, 4, 4), 9.0))
    box = torch.tensor([[3.0, 4.5, 9.5, 8]])
    found = masks_of((*everywhere, box), Content(0, 0, 16, 16), (16, 16))[0]
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[5:8, 3:10] = True
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_predictions_are_computed_in_float32(dtype: torch.dtype) -> None:
    coefficients, prototypes, boxes = objects((64, 64))
    half = (coefficients.to(dtype), prototypes.to(dtype), boxes)
    same = (half[0].float(), half[1].float(), boxes)
    content, image = Content(0, 0, 64, 64), (100, 100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = masks_of(half, content, image)
    assert torch.equal(found, masks_of(same, content, image))


def growth(mask_format: str, full: int) -> float:
    """Memory in MB for 300 masks of 4,000 x 3,000 pixels, `full` of them of the whole image."""
    script = f"""
import resource, torch
from tests.modeling.heads.mask.test_full_size import masks_of, objects
from yolor_d2.letterbox import Content
torch.set_num_threads(1)
coefficients, prototypes, boxes = objects((640, 480), number=300)
boxes[:, 2:] = boxes[:, :2] + 60
boxes[:{full}] = torch.tensor([0.0, 0, 640, 480])
masks_of((coefficients[:2], prototypes, boxes[:2]), Content(0, 0, 640, 480), (64, 48))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
masks_of((coefficients, prototypes, boxes), Content(0, 0, 640, 480), (4000, 3000),
         mask_format={mask_format!r})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    root = Path(__file__).parents[4]
    command = [sys.executable, "-c", script]
    return float(
        subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    )


def test_memory_of_run_lengths_of_a_large_image() -> None:
    assert growth("rle", full=5) < 500


@pytest.mark.slow
def test_memory_of_dense_masks_of_a_large_image() -> None:
    result = 300 * 4000 * 3000 / 2**20
    assert growth("dense", full=5) < result + 500
