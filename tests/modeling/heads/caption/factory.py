"""Small caption heads, feature maps and caption targets."""

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor

from yolor_d2.modeling.heads.caption import (
    CaptionTraining,
    Decoding,
    TransformerCaptionHead,
    TransformerSizes,
    VocabularyOptions,
)
from yolor_d2.modeling.objects import CaptionTargets

from ...factory import random_maps

PAD, BOS, EOS = 0, 1, 2
SHAPES = {
    "p3": ShapeSpec(channels=6, stride=8),
    "c5": ShapeSpec(channels=10, stride=32),
    "p5": ShapeSpec(channels=12, stride=32),
}
CAPTIONS = torch.tensor([[1, 5, 6, 7, 2], [1, 9, 2, 0, 0], [0, 0, 0, 0, 0]])
IMAGE_IDS = ("a", "b", "c")
GROUPS = {
    "vocabulary": (VocabularyOptions, {"vocab_size": 23}),
    "sizes": (TransformerSizes, {"dim": 16, "num_heads": 2, "ffn_dim": 32}),
    "training": (CaptionTraining, {}),
    "decoding": (Decoding, {"max_tokens": 8}),
}


def make_head(*maps: str, seed: int = 0, **options: Any) -> TransformerCaptionHead:
    """A head in evaluation mode; fields of its option groups are given by name."""
    groups: dict[str, Any] = {}
    for name, (kind, defaults) in GROUPS.items():
        given = {field: options.pop(field) for field in kind._fields if field in options}
        groups[name] = kind(**defaults | given)
    shapes = {name: SHAPES[name] for name in maps or ("c5", "p5")}
    torch.manual_seed(seed)
    return TransformerCaptionHead(
        input_shape=shapes, in_features=list(shapes), **groups, **options
    ).eval()


def make_features(n: int = 3, height: int = 64, width: int = 96) -> dict[str, Tensor]:
    return random_maps(SHAPES, images=n, size=(height, width), seed=1)


def targets(ids: Tensor = CAPTIONS, known: list[bool] | None = None) -> CaptionTargets:
    """Captions (N, T) or (N, K, T); all images have some unless `known` is given."""
    known = [True] * len(ids) if known is None else known
    return CaptionTargets(
        ids.view(len(ids), -1, ids.shape[-1]),
        torch.tensor(known, device=ids.device),
        IMAGE_IDS[: len(ids)],
    )
