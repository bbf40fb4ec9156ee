"""Precision, memory layout and threads of the training steps on a CPU (SOLVER.CPU)."""

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

CHOICES = ("processor", "timed", "keys")
CPUINFO = Path("/proc/cpuinfo")  # of Linux
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # of x86-64, and of 64-bit ARM


class CPUSetting(NamedTuple):
    """How training steps are computed on a CPU; results depend on it in their last digits.

    Attributes:
        precision: of the forward pass: "bf16", or "" for float32.
        channels_last: the memory layout of weights and maps.
        threads: of PyTorch.
    """

    precision: str
    channels_last: bool
    threads: int

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "NCHW"
        return f"{self.precision or 'fp32'}, {layout}, threads: {self.threads}"

    def apply(self, model: nn.Module) -> None:
        """Set layout and threads; the values of the weights stay the same."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        model.to(memory_format=layout)
        torch.set_num_threads(min(self.threads, cores()))


def cores() -> int:
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for matrices in bf16, without which it is slow."""
    if not CPUINFO.is_file():
        return False
    lines = CPUINFO.read_text().splitlines()
    flags = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    return not BF16_FLAGS.isdisjoint(flags.split())
