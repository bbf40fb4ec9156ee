"""Caption heads."""

from .base import CaptionHead
from .decoding import Decoding
from .grid_region_head import GridAndRegions, GridRegionCaptionHead
from .head import TransformerCaptionHead
from .options import (
    CaptionTraining,
    PointOptions,
    RegionOptions,
    TransformerSizes,
    VocabularyOptions,
)
from .self_critical import SelfCritical
from .visual_tokens import VisualTokens

__all__ = [
    "CaptionHead",
    "CaptionTraining",
    "Decoding",
    "GridAndRegions",
    "GridRegionCaptionHead",
    "PointOptions",
    "RegionOptions",
    "SelfCritical",
    "TransformerCaptionHead",
    "TransformerSizes",
    "VisualTokens",
    "VocabularyOptions",
]
