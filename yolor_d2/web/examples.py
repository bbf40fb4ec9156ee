"""Pictures to try: the first of a folder, with thumbnails made once."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2

from ..errors import FileError
from .uploads import BadUploadError, read_upload

NUMBER = 8
THUMBNAIL_PIXELS = 40_000
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))

logger = logging.getLogger(__name__)


class Example(NamedTuple):
    """A picture to try.

    Attributes:
        name: name of the file.
        path: the file.
        thumbnail: a JPEG.
    """

    name: str
    path: Path
    thumbnail: bytes


def find_examples(folder: Path, *, max_bytes: int) -> list[Example]:
    """Return the first pictures of a folder that can be uploaded.

    Args:
        folder: is not searched for folders.
        max_bytes: largest upload.

    Raises:
        ValueError: the folder has no such picture.
    """
    found = list(islice(_usable(folder, max_bytes), NUMBER))
    if not found:
        raise FileError(f"{folder}: has no pictures of at most {max_bytes / 1e6:g} MB")
    return found


def _usable(folder: Path, max_bytes: int) -> Iterator[Example]:
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES):
        if not path.is_file() or path.stat().st_size > max_bytes:
            continue
        try:
            pixels = read_upload(path.read_bytes(), max_pixels=THUMBNAIL_PIXELS).pixels
        except BadUploadError as error:
            logger.warning("%s: %s", path, error)
            continue
        _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        yield Example(path.name, path, data.tobytes())
