"""Detection: boxes and classes."""

from .assigner import TaskAlignedAssigner
from .head import AnchorFreeHead, PointPredictions
from .losses import DetectionLossWeights
from .suppression import Suppression

__all__ = [
    "AnchorFreeHead",
    "DetectionLossWeights",
    "PointPredictions",
    "Suppression",
    "TaskAlignedAssigner",
]
