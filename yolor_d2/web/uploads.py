"""Pictures that strangers upload: the header is looked at before anything is decoded."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from ..inference.media import to_picture

# No format that starts another program (EPS) or that nobody has in a browser.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
HARD_PIXELS = 100_000_000  # more are refused: decoded, a PNG takes up to 1.7 GB even so
HARD_SIDE = 50_000
HARD_RATIO = 500  # of the sides; what is longer has no pixel left when the network sees it


class BadUploadError(ValueError):
    """What is wrong with an upload, in words for whoever uploaded it."""


class Upload(NamedTuple):
    """A picture to predict on.

    Attributes:
        pixels: uint8 RGB (height, width, 3), with at most as many pixels as asked for.
        name: of the file, without folders.
        width, height: before it was scaled down.
    """

    pixels: np.ndarray
    name: str
    width: int
    height: int

    @property
    def is_scaled(self) -> bool:
        return self.pixels.shape[:2] != (self.height, self.width)


def read_upload(path: str | os.PathLike[str], *, max_pixels: int) -> Upload:
    """Decode a picture, whatever its name says it is, scaled down to a number of pixels.

    Raises:
        BadUploadError: it is none, damaged, or larger than anybody needs.
    """
    image = _open(path)
    with image:
        _check_size(*image.size)
        # JPEG is decoded at 1/2, 1/4 or 1/8 for less, if that is still large enough.
        stored = image.size
        image.draft(None, fitting_size(*stored, max_pixels))
        decoded = image.size
        try:
            pixels = to_picture(image).pixels
        except Exception:  # whatever a decoder makes of damaged or hostile bytes
            raise BadUploadError("This picture is damaged: it cannot be decoded.") from None
    turned = pixels.shape[1::-1] != decoded
    width, height = stored[::-1] if turned else stored
    size = fitting_size(width, height, max_pixels)
    if size != pixels.shape[1::-1]:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Upload(pixels, Path(path).name, width, height)


def fitting_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """The same shape with at most a number of pixels."""
    if width * height <= max_pixels:
        return width, height
    factor = math.sqrt(max_pixels / (width * height))
    return max(1, int(width * factor)), max(1, int(height * factor))


def _open(path: str | os.PathLike[str]) -> Image.Image:
    """Read the header; no pixel is decoded."""
    try:
        return Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadUploadError(f"This picture is too large: {_LIMITS}") from None
    except Exception:  # as above
        kinds = ", ".join(FORMATS)
        raise BadUploadError(f"This file is not a picture that can be read ({kinds}).") from None


_LIMITS = f"at most {HARD_PIXELS // 1_000_000} megapixels are decoded."


def _check_size(width: int, height: int) -> None:
    if width * height > HARD_PIXELS or max(width, height) > HARD_SIDE:
        raise BadUploadError(f"This picture is too large, {width} x {height}: {_LIMITS}")
    if max(width, height) > HARD_RATIO * min(width, height):
        raise BadUploadError(f"This picture is too narrow to see anything, {width} x {height}.")
