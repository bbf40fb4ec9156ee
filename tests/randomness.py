"""Whether something has drawn random numbers."""

import random
from typing import Any

import numpy as np
import torch


def randomness() -> list[Any]:
    """Where the global generators stand."""
    words = np.random.get_state()[1].tolist()  # noqa: NPY002
    return [random.getstate(), words, torch.get_rng_state().tolist()]
