"""What training a network of any package returns to the comparison of peers."""

from typing import NamedTuple

from torch import nn


class Trained(NamedTuple):
    """A trained network.

    Attributes:
        model: in evaluation mode, with detectron2's interface.
        images: number of images that it has seen.
        seconds: CPU time of training with loading the images, without validation.
        million_parameters: of the network in training.
    """

    model: nn.Module
    images: int
    seconds: float
    million_parameters: float
