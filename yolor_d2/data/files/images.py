"""Reading images: an RGB array or one clear reason why not, a cache, a list of bad files."""

import fcntl
import io
import logging
import struct
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import BadFileError, DataError
from .contents import read_bytes

logger = logging.getLogger(__name__)

# OpenCV decodes JPEG at 1/2, 1/4 and 1/8 for less; "grayscale" in these names is overridden by the
# RGB flag, while the "colour" ones would insist on BGR.
_DECODE_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
REDUCTIONS = tuple(_DECODE_FLAGS)


def read_image(path: str, *, width: int, height: int, reduction: int = 1) -> np.ndarray:
    """Decode an image of known size.

    Args:
        path: any format that OpenCV reads; grey, CMYK, 16-bit and transparent ones become 8-bit
        RGB.
        width, height: what the annotations say. They decide whether an EXIF rotation is applied.
        reduction: 1, 2, 4 or 8. Each returned pixel stands for this many original ones a side.

    Returns:
        uint8 RGB of shape (ceil(height / reduction), ceil(width / reduction), 3).

    Raises:
        BadFileError: the file is missing, truncated, no image, or of another size.
    """
    data = read_bytes(path)
    is_jpeg = data[:2] == b"\xff\xd8"
    # Sizes that differ by less than a block look alike when reduced: those are decoded in full.
    factor = reduction if is_jpeg and not 0 < abs(width - height) < reduction else 1
    if factor > 1 and sorted(jpeg_size(data)) != sorted((width, height)):
        factor = 1  # and the exact size will be compared
    expected = (-(-height // factor), -(-width // factor))
    image = _decode(data, _DECODE_FLAGS[factor], path)
    if image.shape[:2] != expected and expected == image.shape[1::-1]:
        image = _decode(data, _DECODE_FLAGS[factor] | cv2.IMREAD_IGNORE_ORIENTATION, path)
    if image.shape[:2] != expected:
        found_height, found_width = image.shape[:2]
        raise BadFileError(
            path, f"is {found_width} x {found_height}, its annotation says {width} x {height}"
        )
    return image if factor == reduction else _shrink(image, reduction)


def read_upright(path: str) -> np.ndarray:
    """Decode an image of unknown size, turned as its EXIF says: uint8 RGB (height, width, 3).

    Raises:
        BadFileError: the file is missing, truncated or no image.
    """
    return _decode(read_bytes(path), _DECODE_FLAGS[1], path)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) as stored, from the frame header of a JPEG's bytes; (0, 0) without one."""
    position = 2
    while position + 9 <= len(data):
        if data[position + 1] == 0xFF:  # padding
            position += 1
            continue
        marker, length = (
            data[position + 1],
            int.from_bytes(data[position + 2 : position + 4], "big"),
        )
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + length
    return 0, 0


def image_size(path: str) -> tuple[int, int]:
    """(width, height) after EXIF rotation, from the header alone."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Orientations 5..8 swap the sides; OpenCV leaves TIFF as it is.
            turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) >= 5
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFileError(path, f"cannot be read as an image ({error})") from None
    return (height, width) if turned else (width, height)


def _decode(data: bytes, flags: int, path: str) -> np.ndarray:
    if not _is_complete(data):
        raise BadFileError(path, "is truncated")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadFileError(path, f"cannot be decoded ({error.err})") from None
    if image is None:
        raise BadFileError(path, "is not an image")
    return image


def _is_complete(data: bytes) -> bool:
    """OpenCV fills the lost part of a truncated file with grey, silently: look for its end."""
    if data[:2] == b"\xff\xd8":
        end_marker = b"\xff\xd9"
    elif data[:4] == b"\x89PNG":
        end_marker = b"IEND"
    else:
        return True
    if end_marker in data[-64:]:
        return True
    try:  # more than padding behind the marker, or no marker at all: let a strict reader decide
        Image.open(io.BytesIO(data)).load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def _shrink(image: np.ndarray, reduction: int) -> np.ndarray:
    """What decoding at reduced scale does for JPEG: means over blocks, the last ones padded."""
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(
        image, 0, -height % reduction, 0, -width % reduction, cv2.BORDER_REPLICATE
    )
    size = (padded.shape[1] // reduction, padded.shape[0] // reduction)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


class ArrayCache:
    """The most recently used arrays, up to a number of bytes; 0 keeps nothing.

    Each worker process has its own. What is returned must not be written to.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array kept under a key, made now if there is none."""
        if not self.max_bytes:
            return make()
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return self._arrays[key]
        array = make()
        array.flags.writeable = False
        self._arrays[key] = array
        self._bytes += array.nbytes
        while self._bytes > self.max_bytes:
            self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array


class BadFiles:
    """The files that could not be used, each listed once, over all workers and processes of a
    machine.

    Args:
        path: the text file that lists them, a line each: path, tab, reason.
        total: number of images of the data set.
        max_fraction: more bad files than this share of the data set stop the run.
    """

    def __init__(self, *, path: Path, total: int, max_fraction: float) -> None:
        self.path = path
        self.total = total
        self.max_fraction = max_fraction
        self._reported: set[str] = set()

    def reset(self) -> None:
        """Forget what an earlier run found; for the process that starts a new one."""
        self.path.unlink(missing_ok=True)

    def report(self, error: BadFileError) -> None:
        """List a file, unless it is listed already; a DataError when there are too many."""
        if error.path in self._reported:
            return
        self._reported.add(error.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
            file.seek(0)
            listed = {line.split("\t")[0] for line in file}
            if error.path not in listed:
                file.write(f"{error.path}\t{error.reason}\n")
                listed.add(error.path)
                logger.warning("Skipping a bad file: %s", error)
        if len(listed) > self.max_fraction * self.total:
            raise DataError(
                f"{len(listed)} of {self.total} images cannot be used, more than "
                f"{self.max_fraction:.0%}: they are listed in {self.path}"
            )
