"""Semantic segmentation."""

from .head import MultiScaleSemanticHead, PlainSemanticHead, SemanticHead, UConvHead

__all__ = ["MultiScaleSemanticHead", "PlainSemanticHead", "SemanticHead", "UConvHead"]
