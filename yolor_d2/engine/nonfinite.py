"""Non-finite values: detected in the step that computes them, reported, and never applied."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

logger = logging.getLogger(__name__)


class FloatBuffers:
    """The floating-point buffers of a model (statistics of batch norms), which a step changes."""

    def __init__(self, model: nn.Module) -> None:
        self.buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._saved = torch.zeros(0)

    @torch.no_grad()
    def save(self) -> None:
        """Remember the current values."""
        if self.buffers:
            self._saved = torch.cat([buffer.flatten() for buffer in self.buffers])

    @torch.no_grad()
    def restore(self) -> None:
        """Return to the saved values."""
        values = self._saved.split([buffer.numel() for buffer in self.buffers])
        for buffer, value in zip(self.buffers, values, strict=True):
            buffer.copy_(value.view_as(buffer))

    @torch.no_grad()
    def zero_or_nan(self) -> Tensor:
        """A scalar on the device: 0 if all values are finite, else NaN."""
        return get_total_norm(self.buffers, float("inf")) * 0


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
    """Write a report of the non-finite values and the images of a step; return its path.

    Args:
        folder: for the report.
        iteration: of the step.
        rank: of this process; each has a report of its own.
        measured: means over all processes.
        own: values of this process.
        model: with the gradients and the statistics of the step.
        batches: of this process.
    """
    images = [
        {"image_id": sample.get("image_id"), "file_name": sample.get("file_name")}
        for batch in batches
        for sample in batch
    ]
    gradients = ((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)
    buffers = ((n, b) for n, b in model.named_buffers() if b.is_floating_point())
    found = {
        "iteration": iteration,
        "measured": {name: repr(value) for name, value in measured.items()},
        "own": {name: repr(value) for name, value in own.items()},
        "gradients": _nonfinite_names(gradients),
        "parameters": _nonfinite_names(model.named_parameters()),
        "buffers": _nonfinite_names(buffers),
        "images": images,
    }
    path = folder / f"nonfinite_{iteration:07d}_rank{rank}.json"
    path.write_text(json.dumps(found, indent=1))
    return path


def _nonfinite_names(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, tensor in tensors if not torch.isfinite(tensor).all()]
