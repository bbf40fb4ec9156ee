"""Captions."""

from .decoding import Decoding
from .head import TransformerCaptionHead
from .self_critical import SelfCritical
from .visual_tokens import VisualTokens

__all__ = ["Decoding", "SelfCritical", "TransformerCaptionHead", "VisualTokens"]
