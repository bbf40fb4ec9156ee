"""The network as it is used after training: fused, without the parts that only training needs."""

import copy
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def deploy(model: Model) -> Model:
    """A copy of a model that predicts the same, faster, and cannot be trained.

    Every block that can be fused has a `fuse()`: batch norms and implicit vectors are folded into
    convolutions. Dropout is removed.
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
    """Convert weights to channels_last, the fastest layout for convolutions of a deployed model."""
    return model.to(memory_format=torch.channels_last)


def best_device() -> str:
    """ "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
