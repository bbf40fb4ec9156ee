"""Maps of ground truth, of which a broken one must not end a run."""

import logging
from pathlib import Path

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)


def read_map(
    path: str | Path, *, shape: tuple[int, ...], mode: str | None = None
) -> np.ndarray | None:
    """The pixels of a map; None, with a warning, where it is broken or not of its image's size.

    Args:
        path: of the PNG file.
        shape: (H, W) of the image.
        mode: of Pillow, that the pixels are converted to.
    """
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file if mode is None else file.convert(mode))  # (H, W) or (H, W, 3)
    except (OSError, SyntaxError, ValueError) as error:
        logger.warning("%s: is left out, it cannot be read (%s)", path, error)
        return None
    if pixels.shape[:2] != shape:
        logger.warning("%s: is left out, it is of %s, its image of %s", path, pixels.shape, shape)
        return None
    return pixels
