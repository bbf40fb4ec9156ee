"""Decoding of texts from next-token logits."""

from .fixed_beam import fixed_beam_search
from .options import Decoding, decode
from .rules import Captions, Rules, Step, Vocabulary, log_probabilities
from .sampling import sample_texts
from .search import beam_search, greedy_search, stable_topk

__all__ = [
    "Captions",
    "Decoding",
    "Rules",
    "Step",
    "Vocabulary",
    "beam_search",
    "decode",
    "fixed_beam_search",
    "greedy_search",
    "log_probabilities",
    "sample_texts",
    "stable_topk",
]
