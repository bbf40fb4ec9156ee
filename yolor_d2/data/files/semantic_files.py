"""Semantic PNGs for training: a class index per pixel, 255 for unknown pixels.

They are written without row filters, so reading one is little more than zlib decompression.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import BadFileError
from ...files import replace_file
from .contents import read_bytes
from .images import MAX_PIXELS

CLASS_FILE = "categories.json"  # classes of the PNGs beside it: "index", "id" and "name" each

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END_CHUNK = b"\0\0\0\0IEND\xae\x42\x60\x82"
_GRAY, _PALETTE = 0, 3  # PNG color types


def read_index_png(path: str | Path) -> np.ndarray:
    """Read a map of class indices, fastest if `write_index_png` wrote it.

    Args:
        path: an 8-bit grayscale PNG, or a palette PNG, of which the indices are read.

    Returns:
        uint8 of shape (height, width).

    Raises:
        BadFileError: the file is missing, truncated, damaged, or another kind of file.
    """
    path = str(path)
    data = read_bytes(path)
    if not data.startswith(_SIGNATURE):
        raise BadFileError(path, "is not a PNG file")
    chunks = list(_chunks(data, path))
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise BadFileError(path, "is damaged: it has no header")
    width, height, depth, color_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if color_type not in (_GRAY, _PALETTE):
        raise BadFileError(path, "has colors, not class indices")
    if color_type == _GRAY and depth != 8:
        raise BadFileError(path, f"has {depth} bits per pixel, class indices need 8")
    if color_type == _GRAY and not interlaced:
        size = height * (width + 1)
        if size > MAX_PIXELS:
            raise BadFileError(path, f"has more than {MAX_PIXELS // 10**6} million pixels")
        content = b"".join(c for kind, c in chunks if kind == b"IDAT")
        rows = _decompress(content, size, path)
        if rows.size != size or not height * width:
            raise BadFileError(path, "is damaged: its pixels do not fill its size")
        rows = rows.reshape(height, width + 1)
        if not rows[:, 0].any():  # the filter types
            return rows[:, 1:].copy()
    return _decode(data, path)


def write_index_png(path: str | Path, labels: np.ndarray) -> None:
    """Write a uint8 array of shape (height, width) atomically."""
    if labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
        raise ValueError(f"labels must be a uint8 map, got {labels.dtype} of shape {labels.shape}")
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # the first column: filter type 0, none
    rows[:, 1:] = labels
    header = struct.pack(">IIBBBBB", width, height, 8, _GRAY, 0, 0, 0)
    pixels = zlib.compress(rows.tobytes(), level=6)
    content = _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _END_CHUNK
    replace_file(Path(path), content)


def png_size(path: str | Path) -> tuple[int, int] | None:
    """Return (height, width) from the header; None if the file is not a complete PNG."""
    try:
        with open(path, "rb") as file:
            head = file.read(24)
            file.seek(-len(_END_CHUNK), os.SEEK_END)
            tail = file.read()
    except OSError:
        return None
    if not head.startswith(_SIGNATURE) or tail != _END_CHUNK:
        return None
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _chunks(data: bytes, path: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each chunk, after checking the checksum."""
    position = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        end = position + 8 + length
        if end + 4 > len(data):
            raise BadFileError(path, "is truncated")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise BadFileError(path, "is damaged: a checksum is wrong")
        yield kind, data[position + 8 : end]
        position = end + 4


def _decompress(content: bytes, size: int, path: str) -> np.ndarray:
    """Return at most one byte more than the expected size."""
    stream = zlib.decompressobj()
    try:
        pixels = stream.decompress(content, size + 1)
    except zlib.error as error:
        raise BadFileError(path, f"is damaged ({error})") from None
    if not stream.eof and len(pixels) <= size:
        raise BadFileError(path, "is damaged: its pixels are truncated")
    return np.frombuffer(pixels, np.uint8)


def _decode(data: bytes, path: str) -> np.ndarray:
    """Decode with Pillow: OpenCV would return the colors of a palette."""
    try:
        return np.array(Image.open(io.BytesIO(data)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFileError(path, f"cannot be decoded ({error})") from None
