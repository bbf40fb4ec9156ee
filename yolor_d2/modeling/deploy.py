"""The network as it is used after training: folded, and without what only training needs."""

import copy
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def deploy(model: Model) -> Model:
    """A copy of a model that predicts the same, faster, and cannot be trained.

    Every block that can be folded knows how: batch norms go into convolutions, implicit vectors
    into the convolution that they surround. Dropout goes.
    """
    deployed = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(deployed.modules()):
        fuse = getattr(module, "fuse", None)
        if callable(fuse):
            fuse()
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, nn.Identity())
    return deployed


def to_channels_last(model: Model) -> Model:
    """Lay weights out channel by pixel, which convolutions of a deployed model like best."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def best_device() -> str:
    """Where a network is fastest on this machine."""
    return "cuda" if torch.cuda.is_available() else "cpu"
