"""Self-critical training: captions are sampled and weighted by their reward.

Shapes: N images, K sampled captions of an image, T tokens.
"""

from typing import NamedTuple

from torch import Tensor

from ....checks import check_range


class SelfCritical(NamedTuple):
    """Options of self-critical training; see MODEL.CAPTION_HEAD.SCST.

    Attributes:
        samples: captions sampled for each image.
        ce_weight: weight of the cross-entropy loss that is added.
        end_token: count the end of a caption as one of its words.
    """

    samples: int = 5
    ce_weight: float = 0.0
    end_token: bool = True

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        key = "MODEL.CAPTION_HEAD.SCST"
        check_range(key, {"SAMPLES": self.samples}, low=2)  # each is compared with the others
        check_range(key, {"CE_WEIGHT": self.ce_weight})


def advantages(rewards: Tensor) -> Tensor:
    """Rewards (N, K) minus the mean reward of the image's other captions."""
    count = rewards.shape[1]
    return (rewards - rewards.mean(dim=1, keepdim=True)) * count / (count - 1)
