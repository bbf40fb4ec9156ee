"""Text in pictures. OpenCV's own letters are ASCII's only, so Pillow draws, with a font that comes
with matplotlib and knows the alphabets of Europe and many signs."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import INK, PAPER, Color

FONT_FILE = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
MIN_STRIP_WIDTH = 160  # of a caption below a picture that is narrower
SMALLEST_TEXT = 12


def text_size_for(picture: np.ndarray) -> int:
    """Height of letters in pixels, that grows as the picture does."""
    height, width = picture.shape[:2]
    return max(SMALLEST_TEXT, round((height * width) ** 0.5 / 40))


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's simple layout: the other one can be absent and differs between machines.
    return ImageFont.truetype(str(FONT_FILE), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> int:
    """In pixels."""
    return max(1, round(_font(size).getlength(text)))


def line_height(size: int) -> int:
    """In pixels, of any text of a size."""
    return sum(_font(size).getmetrics())


@functools.lru_cache(maxsize=1024)
def _coverage(text: str, size: int) -> np.ndarray:
    """How much of each pixel letters cover, (h, w, 1) of 0..255."""
    canvas = Image.new("L", (text_width(text, size), line_height(size)))
    ImageDraw.Draw(canvas).text((0, 0), text, fill=255, font=_font(size))
    return np.asarray(canvas, dtype=np.uint16)[..., None]


def write(
    picture: np.ndarray, text: str, corner: tuple[int, int], *, size: int, ink: Color
) -> None:
    """Put a line of text into a picture, its upper left corner at x, y."""
    x, y = corner
    coverage = _coverage(text, size)
    window = picture[y : y + coverage.shape[0], x : x + coverage.shape[1]]
    coverage = coverage[: window.shape[0], : window.shape[1]]
    colors = np.array(ink, dtype=np.uint16)
    window[:] = (window * (255 - coverage) + colors * coverage) // 255


def shorten(text: str, *, size: int, width: int) -> str:
    """A text on one line that is no wider than it may be, if need be without its middle."""
    text = " ".join(text.split())
    short, kept = text, len(text)
    while text_width(short, size) > width and kept > 1:
        kept -= 1
        short = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def wrap(text: str, *, size: int, width: int) -> list[str]:
    """Lines no wider than that; what stands on lines of its own keeps them."""
    lines = [line for part in text.splitlines() for line in _fill(part.split(), size, width)]
    return lines or [""]


def _fill(words: Sequence[str], size: int, width: int) -> Iterator[str]:
    """Lines of as many words as have room; a word that has none on a whole line is broken."""
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if text_width(longer, size) <= width:
            line = longer
            continue
        if line:
            yield line
        *full, line = _break(word, size, width)
        yield from full
    yield line


def _break(word: str, size: int, width: int) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and text_width(pieces[-1] + letter, size) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def caption_strip(text: str, width: int, *, size: int = 14) -> np.ndarray:
    """Text on paper, wrapped to a width, (h, width, 3)."""
    margin = size // 2
    lines = wrap(text, size=size, width=max(width - 2 * margin, size))
    step = line_height(size)
    strip = np.full((step * len(lines) + 2 * margin, width, 3), PAPER, dtype=np.uint8)
    for number, line in enumerate(lines):
        write(strip, line, (margin, margin + step * number), size=size, ink=INK)
    return strip
