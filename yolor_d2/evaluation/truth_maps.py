"""Reading ground truth maps; a broken file must not end a run."""

import logging
from pathlib import Path

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)


def read_map(
    path: str | Path, *, shape: tuple[int, ...], mode: str | None = None
) -> np.ndarray | None:
    """Return the pixels of a map; None, with a warning, if it is broken or of another size.

    Args:
        path: PNG file.
        shape: (H, W) of the image.
        mode: Pillow mode to convert the pixels to; None keeps the mode of the file.
    """
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file if mode is None else file.convert(mode))  # (H, W) or (H, W, 3)
    except (OSError, SyntaxError, ValueError) as error:
        logger.warning("%s: skipped, cannot be read (%s)", path, error)
        return None
    if pixels.shape[:2] != shape:
        logger.warning("%s: skipped, its shape is %s, the image's %s", path, pixels.shape, shape)
        return None
    return pixels
