"""Drawing annotations and results on images. Everything is RGB uint8 (H, W, 3)."""

from .colors import PAPER
from .results import LAYERS, clear_layers, draw_results
from .samples import draw_sample, sample_pictures
from .sheets import CAPTIONS, KINDS, draw_each, side_by_side, stack
from .text import caption_strip

__all__ = [
    "CAPTIONS",
    "KINDS",
    "LAYERS",
    "PAPER",
    "caption_strip",
    "clear_layers",
    "draw_each",
    "draw_results",
    "draw_sample",
    "sample_pictures",
    "side_by_side",
    "stack",
]
