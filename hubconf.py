"""Entry points of torch.hub, from a checkout:

    torch.hub.load("path/to/yolor_d2", "predictor", "model_final.pth", source="local")
    torch.hub.load("path/to/yolor_d2", "toy", source="local")

Each configuration of configs/COCO is an entry point too, such as "yolor_elan_mtl" and "v9_s".
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from yolor_d2 import Predictor
from yolor_d2.modeling.statistics import build_network

dependencies = ["torch", "torchvision", "detectron2"]


def predictor(weights: str, **settings: Any) -> Predictor:
    """The predictor of a checkpoint, release or published file; settings as in `Predictor`."""
    return Predictor(weights, **settings)


def toy(*overrides: str) -> nn.Module:
    """The network of `make demo`, with random weights; overrides: KEY, VALUE, ..."""
    return build_network("toy/yolor_elan_n_toy.yaml", list(overrides))


def _entry_point(config: str) -> Callable[..., nn.Module]:
    def build(*overrides: str) -> nn.Module:
        return build_network(config, list(overrides))

    build.__doc__ = f"The network of {config} with random weights; overrides: KEY, VALUE, ..."
    return build


for _file in sorted((Path(__file__).parent / "configs/COCO").glob("*.yaml")):
    globals()[_file.stem] = _entry_point(f"COCO/{_file.name}")
