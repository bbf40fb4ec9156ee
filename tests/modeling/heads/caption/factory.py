"""Small caption heads and maps that suit them."""

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor

from yolor_d2.modeling.heads.caption.decoding import Decoding
from yolor_d2.modeling.heads.caption.head import TransformerCaptionHead

from ...factory import random_maps

PAD, BOS, EOS = 0, 1, 2
SHAPES = {
    "p3": ShapeSpec(channels=6, stride=8),
    "c5": ShapeSpec(channels=10, stride=32),
    "p5": ShapeSpec(channels=12, stride=32),
}
CAPTIONS = torch.tensor([[1, 5, 6, 7, 2], [1, 9, 2, 0, 0], [0, 0, 0, 0, 0]])


def make_head(*maps: str, seed: int = 0, **options: Any) -> TransformerCaptionHead:
    torch.manual_seed(seed)
    defaults = {"vocab_size": 23, "dim": 16, "num_heads": 2, "ffn_dim": 32}
    decoding = {name: options.pop(name) for name in Decoding._fields if name in options}
    options["decoding"] = Decoding(**({"max_tokens": 8} | decoding))
    shapes = {name: SHAPES[name] for name in maps or ("c5", "p5")}
    return TransformerCaptionHead(
        input_shape=shapes, in_features=list(shapes), **(defaults | options)
    ).eval()


def make_features(n: int = 3, height: int = 64, width: int = 96) -> dict[str, Tensor]:
    return random_maps(SHAPES, images=n, size=(height, width), seed=1)
