"""Predictions and objects for tests of the detection head."""

from pathlib import Path

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor

from yolor_d2.modeling.heads.detection.geometry import level_points
from yolor_d2.modeling.heads.detection.head import AnchorFreeHead, PointPredictions
from yolor_d2.modeling.objects import Objects

from ...factory import random_maps
from ...golden import golden_arrays

STRIDES = (8, 16, 32)
GOLDEN_CASES = {  # seed, height, width, images
    "A_perobject": (101, 128, 160, 2),
    "C_crowded": (103, 96, 96, 1),
    "D_empty": (104, 64, 64, 1),
    "E_clamped": (105, 256, 256, 1),
}


def shapes_of(channels: int = 8) -> dict[str, ShapeSpec]:
    return {f"p{n}": ShapeSpec(channels=channels * 2**n // 8, stride=2**n) for n in (3, 4, 5)}


def head_of(num_classes: int = 3, *, channels: int = 8, **settings) -> AnchorFreeHead:
    return AnchorFreeHead(input_shape=shapes_of(channels), num_classes=num_classes, **settings)


def features_of() -> dict[str, Tensor]:
    """Feature maps for `head_of`."""
    return random_maps(shapes_of())


def predictions_of(logits: Tensor, bins: Tensor, size: tuple[int, int]) -> PointPredictions:
    sizes = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
    points, strides = level_points(sizes, STRIDES, dtype=logits.dtype, device=logits.device)
    return PointPredictions(logits, bins, points, strides)


def random_predictions(
    *,
    images: int = 2,
    size: tuple[int, int] = (64, 96),
    num_classes: int = 3,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> PointPredictions:
    rng = torch.Generator().manual_seed(seed)
    number = sum(size[0] // stride * (size[1] // stride) for stride in STRIDES)
    logits = torch.randn(images, number, num_classes, generator=rng).to(dtype) - 1
    bins = torch.randn(images, number, 64, generator=rng).to(dtype) * 2
    return predictions_of(logits.requires_grad_(), bins.requires_grad_(), size)


def random_objects(
    counts: list[int], *, size: tuple[int, int] = (64, 96), num_classes: int = 3, seed: int = 0
) -> Objects:
    """Objects with boxes of any size, some of which extend beyond the canvas.

    Args:
        counts: number of objects of each image.
    """
    rng = torch.Generator().manual_seed(seed)
    number, sides = sum(counts), torch.tensor([size[1], size[0]])
    center = torch.rand(number, 2, generator=rng) * sides
    half = (torch.rand(number, 2, generator=rng) ** 2 * sides + 4) / 2
    return Objects(
        boxes=torch.cat([center - half, center + half], dim=1),
        classes=torch.randint(num_classes, (number,), generator=rng),
        image=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        known=torch.ones(len(counts), dtype=torch.bool),
    )


def golden_case(
    shared_dir: Path, case: str, dtype: torch.dtype
) -> tuple[list[Tensor], PointPredictions, Objects]:
    """Raw maps of a golden case of the published loss, the same as predictions, and its objects."""
    seed, height, width, images = GOLDEN_CASES[case]
    rs = np.random.RandomState(seed)
    maps = []
    for stride in STRIDES:
        values = rs.standard_normal((images, 144, height // stride, width // stride))
        values[:, :64] *= 2
        values[:, 64:] = values[:, 64:] * 1.5 - 2
        if case == "E_clamped" and stride == 8:
            values[:, :64].reshape(images, 4, 16, -1)[:, :, 14:] += 6
        maps.append(torch.from_numpy(values.astype(np.float32)).to(dtype).requires_grad_())
    raw = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)  # (N, A, 144)
    targets = torch.from_numpy(golden_arrays(shared_dir, "losses")[f"{case}/targets"]).to(dtype)
    sides = torch.tensor([width, height])
    center, half = targets[:, 2:4] * sides, targets[:, 4:6] * sides / 2
    objects = Objects(
        boxes=torch.cat([center - half, center + half], dim=1),
        classes=targets[:, 1].long(),
        image=targets[:, 0].long(),
        known=torch.ones(images, dtype=torch.bool),
    )
    return maps, predictions_of(raw[..., 64:], raw[..., :64], (height, width)), objects
