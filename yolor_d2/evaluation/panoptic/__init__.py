"""Panoptic quality."""

from .evaluator import PanopticEvaluator

__all__ = ["PanopticEvaluator"]
