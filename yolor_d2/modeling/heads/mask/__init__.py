"""Instance masks."""

from .head import MaskPredictions, PrototypeMaskHead

__all__ = ["MaskPredictions", "PrototypeMaskHead"]
