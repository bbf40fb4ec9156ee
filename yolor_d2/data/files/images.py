"""Reading images as RGB arrays, a cache of arrays, and the list of files that cannot be used."""

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
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from ...errors import BadFileError, DataError
from .contents import open_header, read_bytes

logger = logging.getLogger(__name__)

# OpenCV decodes JPEG faster at 1/2, 1/4 and 1/8. The RGB flag overrides "GRAYSCALE" in these names;
# the REDUCED_COLOR flags would return BGR.
_DECODE_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
REDUCTIONS = tuple(_DECODE_FLAGS)
MAX_PIXELS = 178_956_970  # larger images are not decoded; it is the limit of Pillow


def read_image(path: str, *, width: int, height: int, reduction: int = 1) -> np.ndarray:
    """Decode an image of known size.

    Args:
        path: a file in any format that OpenCV reads; gray, CMYK, 16-bit and transparent images are
            converted to 8-bit RGB.
        width, height: size in the annotations; it decides whether an EXIF rotation is applied.
        reduction: 1, 2, 4 or 8: the factor by which the sides shrink.

    Returns:
        uint8 RGB of shape (ceil(height / reduction), ceil(width / reduction), 3).

    Raises:
        BadFileError: the file is missing, truncated, not an image, or of another size.
    """
    data = read_bytes(path)
    is_jpeg = data[:2] == b"\xff\xd8"
    # Sides that differ by less than a block are equal when reduced: decode such images in full.
    factor = reduction if is_jpeg and not 0 < abs(width - height) < reduction else 1
    if factor > 1 and sorted(jpeg_size(data)) != sorted((width, height)):
        factor = 1  # to compare the exact size
    expected = (-(-height // factor), -(-width // factor))
    image = _decode(data, _DECODE_FLAGS[factor], path)
    if image.shape[:2] != expected and expected == image.shape[1::-1]:
        image = _decode(data, _DECODE_FLAGS[factor] | cv2.IMREAD_IGNORE_ORIENTATION, path)
    if image.shape[:2] != expected:
        found_height, found_width = image.shape[:2]
        raise BadFileError(
            path, f"is {found_width} x {found_height}, its annotation says {width} x {height}"
        )
    return image if factor == reduction else shrink(image, reduction)


def read_upright(path: str) -> np.ndarray:
    """Decode an image of unknown size, with its EXIF rotation: uint8 RGB (height, width, 3).

    Raises:
        BadFileError: the file is missing, truncated or not an image.
    """
    return _decode(read_bytes(path), _DECODE_FLAGS[1], path)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) as stored in the frame header of a JPEG; (0, 0) without a header."""
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
    """Return (width, height) after EXIF rotation, reading only the header."""
    try:
        with open_header(path) as file, Image.open(file) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):  # image.size is rotated in new versions of Pillow
                width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
            is_rotated = image.getexif().get(0x0112, 1) >= 5  # orientations 5..8 swap the sides
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFileError(path, f"cannot be read as an image ({error})") from None
    return (height, width) if is_rotated else (width, height)


def _decode(data: bytes, flags: int, path: str) -> np.ndarray:
    if not _is_complete(data):
        raise BadFileError(path, "is truncated")
    if _stored_pixels(data) > MAX_PIXELS:
        raise BadFileError(path, f"has more than {MAX_PIXELS // 10**6} million pixels")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadFileError(path, f"cannot be decoded ({error.err})") from None
    if image is None:
        raise BadFileError(path, "is not an image")
    return image


def _stored_pixels(data: bytes) -> int:
    """Return the number of pixels in the header: a small file can expand to gigabytes."""
    if data[:2] == b"\xff\xd8":
        width, height = jpeg_size(data)
        return width * height
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width * height
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        return MAX_PIXELS + 1
    except Exception:  # decoders can raise anything for damaged bytes; OpenCV is tried
        return 0


def _is_complete(data: bytes) -> bool:
    """Check for the end of a JPEG or PNG: OpenCV silently fills the lost part with gray.

    It also allocates memory for the length of a PNG's chunk, whatever follows.
    """
    if data[:2] == b"\xff\xd8":
        end_marker = b"\xff\xd9"
    elif data[:4] == b"\x89PNG":
        if not _has_whole_chunks(data):
            return False
        end_marker = b"IEND"
    else:
        return True
    if end_marker in data[-64:]:
        return True
    try:  # data after the marker, or no marker: Pillow raises an error on truncated files
        Image.open(io.BytesIO(data)).load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def _has_whole_chunks(data: bytes) -> bool:
    """Whether all chunks of a PNG, up to its end, are inside the file."""
    position = 8
    while data[position + 4 : position + 8] not in (b"", b"IEND"):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return position <= len(data)


def shrink(image: np.ndarray, reduction: int) -> np.ndarray:
    """Average over blocks, as decoding a JPEG at reduced scale does; the last ones are padded."""
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(
        image, 0, -height % reduction, 0, -width % reduction, cv2.BORDER_REPLICATE
    )
    size = (padded.shape[1] // reduction, padded.shape[0] // reduction)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


class ArrayCache:
    """The most recently used arrays, up to `max_bytes`; 0 disables the cache.

    Each worker process has its own cache. Returned arrays must not be modified.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a key, making it if it is not cached."""
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
    """List of the files that cannot be used, shared by all processes of a machine.

    Args:
        path: text file of the list, with a line per file: path, tab, reason.
        total: number of images of the data set.
        max_fraction: largest share of unusable files before the run stops.
    """

    def __init__(self, *, path: Path, total: int, max_fraction: float) -> None:
        self.path = path
        self.total = total
        self.max_fraction = max_fraction
        self._reported: set[str] = set()

    def reset(self) -> None:
        """Delete the list of an earlier run."""
        self.path.unlink(missing_ok=True)

    def report(self, error: BadFileError) -> None:
        """Add a file unless it is listed; raise a DataError if there are too many."""
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
                f"{self.max_fraction:.0%}, such as {min(listed)}; {self.path} lists them: "
                "repair them, or raise DATALOADER.MAX_BAD_FILES"
            )
