"""Learning from rewards: captions that are drawn are worth what they earn beyond their siblings.

Shapes: N images, K captions drawn of each, T tokens.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

# Names of the images' files and ids of captions (N, K, T) -> what each caption earns (N, K).
Reward = Callable[[Sequence[str], Tensor], Tensor]


class SelfCritical(NamedTuple):
    """How captions learn from rewards; see MODEL.CAPTION_HEAD.SCST."""

    samples: int = 5  # captions that are drawn of each image
    ce_weight: float = 0.0  # of the cross-entropy loss beside
    end_token: bool = True  # whether the end of a caption counts as a word of it


def advantages(rewards: Tensor) -> Tensor:
    """How much more each caption (N, K) earns than the others of its image do on average."""
    count = rewards.shape[1]
    return (rewards - rewards.mean(dim=1, keepdim=True)) * count / (count - 1)
