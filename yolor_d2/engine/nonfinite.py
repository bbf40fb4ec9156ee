"""What is not finite is found at its step, written down, and never becomes part of the weights."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


class NonFiniteError(FloatingPointError):
    """Training cannot go on: a loss, a gradient or a statistic is infinite or not a number."""


class Statistics:
    """The floating-point buffers of a model (batch norms' statistics), which a step may spoil."""

    def __init__(self, model: nn.Module) -> None:
        named = [(name, b) for name, b in model.named_buffers() if b.is_floating_point()]
        self.names = [name for name, _ in named]
        self.buffers = [buffer for _, buffer in named]
        self._kept = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember the values as they are."""
        if self.buffers:
            torch._foreach_copy_(self._kept, self.buffers)

    @torch.no_grad()
    def put_back(self) -> None:
        """Return to the values that were remembered."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self._kept)

    @torch.no_grad()
    def badness(self) -> Tensor:
        """A scalar on the device: 0 where all values are finite, else not a number."""
        if not self.buffers:
            return torch.zeros(())
        norms = torch.stack(torch._foreach_norm(self.buffers, float("inf")))  # (buffers,)
        return (norms * 0).sum()


def report_nonfinite(
    folder: Path,
    *,
    iteration: int,
    rank: int,
    measured: Mapping[str, float],
    own: Mapping[str, float],
    model: nn.Module,
    batches: Iterable[Iterable[Mapping[str, Any]]],
) -> Path:
    """Write down what is not finite, and which images were in the step.

    Args:
        folder: for the file.
        iteration: of the step.
        rank: of this process, which has its own file.
        measured: means over all processes.
        own: what this process has had of it.
        model: with the gradients and the statistics of the step.
        batches: of this process.
    """
    images = [
        {"image_id": sample.get("image_id"), "file_name": sample.get("file_name")}
        for batch in batches
        for sample in batch
    ]
    gradients = ((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)
    found = {
        "iteration": iteration,
        "measured": {name: repr(value) for name, value in measured.items()},
        "own": {name: repr(value) for name, value in own.items()},
        "gradients": _bad_names(gradients),
        "parameters": _bad_names(model.named_parameters()),
        "buffers": _bad_names((n, b) for n, b in model.named_buffers() if b.is_floating_point()),
        "images": images,
    }
    path = folder / f"nonfinite_{iteration:07d}_rank{rank}.json"
    path.write_text(json.dumps(found, indent=1))
    return path


def _bad_names(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, tensor in tensors if not torch.isfinite(tensor).all()]
