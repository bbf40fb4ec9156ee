"""Boxes and classes."""

from .assigner import TaskAlignedAssigner
from .head import AnchorFreeHead, PointPredictions

__all__ = ["AnchorFreeHead", "PointPredictions", "TaskAlignedAssigner"]
