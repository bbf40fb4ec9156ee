"""Box and mask AP."""

from .evaluator import InstanceEvaluator

__all__ = ["InstanceEvaluator"]
