"""The caption head."""

from .decoding import Decoding
from .head import TransformerCaptionHead
from .options import CaptionTraining, RegionOptions, TransformerSizes, VocabularyOptions
from .self_critical import SelfCritical
from .visual_tokens import VisualTokens

__all__ = [
    "CaptionTraining",
    "Decoding",
    "RegionOptions",
    "SelfCritical",
    "TransformerCaptionHead",
    "TransformerSizes",
    "VisualTokens",
    "VocabularyOptions",
]
