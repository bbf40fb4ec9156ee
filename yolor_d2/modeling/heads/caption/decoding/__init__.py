"""From a network's steps to texts."""

from .draw import draw_texts
from .options import Decoding, decode
from .rules import Captions, Rules, Step, Vocabulary, log_probabilities
from .search import beam_search, greedy_search, stable_topk

__all__ = [
    "Captions",
    "Decoding",
    "Rules",
    "Step",
    "Vocabulary",
    "beam_search",
    "decode",
    "draw_texts",
    "greedy_search",
    "log_probabilities",
    "stable_topk",
]
