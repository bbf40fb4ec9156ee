"""Caption metrics."""

from .evaluator import CaptionEvaluator

__all__ = ["CaptionEvaluator"]
