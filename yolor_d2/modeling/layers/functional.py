"""Functions shared by several losses."""

import torch.nn.functional as F
from torch import Tensor

# Above this, softplus(x) equals x in float64.
SOFTPLUS_THRESHOLD = 40.0


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact in float64, unlike with PyTorch's default threshold of 20."""
    return F.softplus(x, threshold=SOFTPLUS_THRESHOLD)
