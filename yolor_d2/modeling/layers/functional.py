"""Functions that several losses share."""

import torch.nn.functional as F
from torch import Tensor

# From here on softplus(x) equals x to the last digit of a float64.
SOFTPLUS_THRESHOLD = 40.0


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact in float64; PyTorch's default threshold of 20 is not."""
    return F.softplus(x, threshold=SOFTPLUS_THRESHOLD)
