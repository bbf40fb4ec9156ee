"""COCO metrics of boxes and masks."""

from .evaluator import InstanceEvaluator

__all__ = ["InstanceEvaluator"]
