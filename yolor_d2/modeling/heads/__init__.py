"""One folder for each task: network, losses, inference."""

from .caption import CaptionHead, GridRegionCaptionHead, TransformerCaptionHead, VisualTokens
from .detection import AnchorFreeHead, OneToOneHead, PointPredictions
from .mask import MaskPredictions, PrototypeMaskHead
from .registry import (
    CAPTION_HEAD_REGISTRY,
    DETECTION_HEAD_REGISTRY,
    MASK_HEAD_REGISTRY,
    build_caption_head,
    build_detection_head,
    build_mask_head,
    read_by_caption_head,
)
from .semantic import (
    DenseNeckSemanticHead,
    MultiScaleSemanticHead,
    PlainSemanticHead,
    SemanticHead,
    UConvHead,
)

__all__ = [
    "CAPTION_HEAD_REGISTRY",
    "DETECTION_HEAD_REGISTRY",
    "MASK_HEAD_REGISTRY",
    "AnchorFreeHead",
    "CaptionHead",
    "DenseNeckSemanticHead",
    "GridRegionCaptionHead",
    "MaskPredictions",
    "MultiScaleSemanticHead",
    "OneToOneHead",
    "PlainSemanticHead",
    "PointPredictions",
    "PrototypeMaskHead",
    "SemanticHead",
    "TransformerCaptionHead",
    "UConvHead",
    "VisualTokens",
    "build_caption_head",
    "build_detection_head",
    "build_mask_head",
    "read_by_caption_head",
]
