"""Semantic segmentation."""

from .head import (
    DenseNeckSemanticHead,
    MultiScaleSemanticHead,
    PlainSemanticHead,
    SemanticHead,
    UConvHead,
)

__all__ = [
    "DenseNeckSemanticHead",
    "MultiScaleSemanticHead",
    "PlainSemanticHead",
    "SemanticHead",
    "UConvHead",
]
