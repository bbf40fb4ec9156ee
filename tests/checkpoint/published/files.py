"""Published .pt files, pickled with the module names of the original code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn


class Conv(nn.Module):
    """A published block, pickled as one of `models.common`."""

    activation = nn.SiLU()  # shared by all, as published

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.bn = nn.BatchNorm2d(4, eps=1e-3)
        self.act = self.activation


class Model(nn.Module):
    """A published network, pickled as one of `models.yolo`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(Conv(), nn.Upsample(scale_factor=2), nn.MaxPool2d(2), Conv())
        self.model.register_buffer("grid", torch.ones(2), persistent=False)
        self.yaml = {"nc": 80, "depth": 1.0}
        self.names = {0: "person"}
        self.stride = torch.tensor([8.0, 16.0, 32.0])


@contextmanager
def published_code() -> Iterator[None]:
    """Context in which the classes are pickled under their published names."""
    modules = {"models": (), "models.common": (Conv,), "models.yolo": (Model,)}
    homes = {cls: cls.__module__ for classes in modules.values() for cls in classes}
    for name, classes in modules.items():
        module = sys.modules[name] = ModuleType(name)
        for cls in classes:
            cls.__module__ = name
            setattr(module, cls.__name__, cls)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        for cls, home in homes.items():
            cls.__module__ = home


def save_published(content: Any, path: Path, **options: Any) -> Path:
    """Save an object that contains published modules."""
    with published_code():
        torch.save(content, path, **options)
    return path
