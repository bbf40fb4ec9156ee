"""Drawing annotations and results on images. All images are RGB uint8 (H, W, 3)."""

from .colors import BACKGROUND
from .results import LAYERS, check_opacity, compatible_layers, draw_results
from .samples import draw_sample, sample_pictures
from .sheets import IMAGE_PANEL, PANELS, draw_panels, side_by_side, stack
from .text import caption_strip

__all__ = [
    "BACKGROUND",
    "IMAGE_PANEL",
    "LAYERS",
    "PANELS",
    "caption_strip",
    "check_opacity",
    "compatible_layers",
    "draw_panels",
    "draw_results",
    "draw_sample",
    "sample_pictures",
    "side_by_side",
    "stack",
]
