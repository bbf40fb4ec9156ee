"""States of the global random number generators."""

import random
from typing import Any

import numpy as np
import torch


def randomness() -> list[Any]:
    """States of the generators of Python, NumPy and PyTorch, which can be compared."""
    words = np.random.get_state()[1].tolist()  # noqa: NPY002
    return [random.getstate(), words, torch.get_rng_state().tolist()]
