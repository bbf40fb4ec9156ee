"""Untrusted picture uploads: the header is checked before anything is decoded."""

import io
import math
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image

from ..errors import WebError
from ..inference.media import to_picture

# Excludes formats that start other programs (EPS) and formats that browsers do not have.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
HARD_PIXELS = 100_000_000  # larger ones are refused; decoding a PNG of this size takes 1.7 GB
HARD_SIDE = 50_000
HARD_RATIO = 500  # of the sides; beyond, the short side vanishes when resized for the network


class BadUploadError(WebError):
    """An upload cannot be used; the message is for the user."""


class Upload(NamedTuple):
    """A picture to predict on.

    Attributes:
        pixels: uint8 RGB (height, width, 3), scaled down if necessary.
        width, height: size before scaling down.
        looks_same: whether browsers show the file as these pixels.
    """

    pixels: np.ndarray
    width: int
    height: int
    looks_same: bool

    @property
    def is_scaled(self) -> bool:
        return self.pixels.shape[:2] != (self.height, self.width)


def read_upload(content: bytes, *, max_pixels: int) -> Upload:
    """Decode a picture, and scale it down to at most `max_pixels`.

    Raises:
        BadUploadError: the file is not a picture, is damaged or too large.
    """
    image = _open(content)
    with image:
        _check_size(*image.size)
        # Decodes JPEG at 1/2, 1/4 or 1/8 of its size if that is large enough.
        stored = image.size
        image.draft(None, fitting_size(*stored, max_pixels))
        decoded = image.size
        try:
            pixels = to_picture(image).pixels
            looks_same = _looks_same(image)
        except Exception:  # decoders can raise anything for damaged or malicious bytes
            raise BadUploadError("This picture is damaged: it cannot be decoded.") from None
    turned = pixels.shape[1::-1] != decoded
    width, height = stored[::-1] if turned else stored
    size = fitting_size(width, height, max_pixels)
    if size != pixels.shape[1::-1]:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Upload(pixels, width, height, looks_same)


def fitting_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Return width and height, scaled down to at most `max_pixels`."""
    if width * height <= max_pixels:
        return width, height
    factor = math.sqrt(max_pixels / (width * height))
    return max(1, int(width * factor)), max(1, int(height * factor))


def _looks_same(image: Image.Image) -> bool:
    """Whether browsers know the format, turn it as its EXIF says, and see nothing through it."""
    if image.format == "TIFF" or "transparency" in image.info:
        return False
    is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return image.mode in ("1", "L", "P", "RGB") and (is_upright or image.format == "JPEG")


def _open(content: bytes) -> Image.Image:
    """Read the header without decoding pixels."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadUploadError(f"This picture is too large: {_LIMITS}") from None
    except Exception:  # see `read_upload`
        kinds = ", ".join(FORMATS)
        raise BadUploadError(f"This file is not a supported picture ({kinds}).") from None


_LIMITS = f"the limits are {HARD_PIXELS // 1_000_000} megapixels and sides of {HARD_SIDE}."


def _check_size(width: int, height: int) -> None:
    if width * height > HARD_PIXELS or max(width, height) > HARD_SIDE:
        raise BadUploadError(f"This picture is too large, {width} x {height}: {_LIMITS}")
    if max(width, height) > HARD_RATIO * min(width, height):
        raise BadUploadError(f"This picture is too narrow, {width} x {height}.")
