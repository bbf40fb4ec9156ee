"""Backbones that build and compute only the feature maps that are used."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import FrozenStatistics
from .features import SIZE_DIVISIBILITY, chosen_features, requested_features

Maps = TypeVar("Maps", Tensor, dict[str, Tensor])


class SelectiveBackbone(Backbone):
    """Backbone whose forward pass computes only requested maps, of those that it was built for.

    Attributes:
        activation_checkpointing: whether the stages and the neck compute their activations again in
            the backward pass instead of keeping them. It can be changed at any time.
    """

    activation_checkpointing = False

    def __init__(
        self, shapes: Mapping[str, ShapeSpec], out_features: Collection[str], *, key: str
    ) -> None:
        """
        Args:
            shapes: shapes of all maps that the architecture has, from fine to coarse.
            out_features: names of the output maps.
            key: configuration key of `out_features`, for messages.
        """
        super().__init__()
        names = chosen_features(out_features, shapes, key=key)
        self._output_shape = {name: shapes[name] for name in names}

    @abstractmethod
    def forward(self, x: Tensor, features: Collection[str] | None = None) -> dict[str, Tensor]:
        """Feature maps of images.

        Args:
            x: images (N, 3, H, W); H and W are multiples of 32.
            features: names of the maps to compute; None: all of `out_features`.
        """

    def run(self, part: Callable[..., Maps], *inputs: Any) -> Maps:
        """The outputs of a stage or of the neck; with activation checkpointing in training."""
        if not (self.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return part(*inputs)
        statistics = part if isinstance(part, nn.Module) else self
        # The second computation must not update the statistics of batch norms again.
        return checkpoint(
            part,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), FrozenStatistics(statistics)),
        )

    @property
    def size_divisibility(self) -> int:
        return SIZE_DIVISIBILITY

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._output_shape)


class StagedBackbone(SelectiveBackbone):
    """A stem and stages in a row, each of which computes a map.

    Only the stages that `out_features` need are built, so that every parameter gets a gradient.
    """

    stem: nn.Module

    def __init__(
        self, shapes: Mapping[str, ShapeSpec], out_features: Collection[str], *, key: str
    ) -> None:
        super().__init__(shapes, out_features, key=key)
        self._shapes = dict(shapes)
        self._stages: dict[str, str] = {}  # map -> name of the module that computes it

    @classmethod
    @abstractmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Arguments of the constructor."""

    def needed_shapes(self) -> dict[str, ShapeSpec]:
        """Shapes of the maps up to the coarsest output map."""
        coarsest = max(shape.stride for shape in self._output_shape.values())
        return {name: shape for name, shape in self._shapes.items() if shape.stride <= coarsest}

    def add_stage(self, name: str, stage: nn.Module) -> None:
        """Append the stage that computes a map: "stage2" computes "c2"."""
        self._stages[name] = f"stage{name[1]}"
        self.add_module(self._stages[name], stage)

    def forward(self, x: Tensor, features: Collection[str] | None = None) -> dict[str, Tensor]:
        requested = requested_features(features, self._output_shape)
        maps = {}
        x = self.run(self.stem, x)
        for name, stage in self._stages.items():
            x = self.run(getattr(self, stage), x)
            if name in requested:
                maps[name] = x
            if len(maps) == len(requested):
                break
        return maps
