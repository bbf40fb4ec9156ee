"""Detection: boxes and classes."""

from .assigner import TaskAlignedAssigner
from .head import AnchorFreeHead, PointPredictions
from .losses import DetectionLossWeights
from .one_to_one import OneToOneHead
from .suppression import Suppression

__all__ = [
    "AnchorFreeHead",
    "DetectionLossWeights",
    "OneToOneHead",
    "PointPredictions",
    "Suppression",
    "TaskAlignedAssigner",
]
