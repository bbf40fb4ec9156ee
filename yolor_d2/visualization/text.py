"""Text in pictures, drawn by Pillow in DejaVu Sans, since OpenCV's fonts are ASCII only."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import BACKGROUND, FOREGROUND, Color

FONT_FILE = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
MIN_STRIP_WIDTH = 160  # pixels of a caption below a narrower picture
MIN_TEXT_SIZE = 12


def text_size_for(picture: np.ndarray) -> int:
    """Return the font size in pixels, which grows with the picture."""
    height, width = picture.shape[:2]
    return max(MIN_TEXT_SIZE, round((height * width) ** 0.5 / 40))


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's basic layout: the Raqm layout is optional and differs between machines.
    return ImageFont.truetype(str(FONT_FILE), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> int:
    """Return the width of a text in pixels."""
    return max(1, round(_font(size).getlength(text)))


def line_height(size: int) -> int:
    """Return the height of a line in pixels."""
    return sum(_font(size).getmetrics())


@functools.lru_cache(maxsize=64)  # captions of large photos take megabytes
def _alpha(text: str, size: int) -> np.ndarray:
    """Return the opacity of a text's pixels, (h, w, 1) uint8."""
    canvas = Image.new("L", (text_width(text, size), line_height(size)))
    ImageDraw.Draw(canvas).text((0, 0), text, fill=255, font=_font(size))
    return np.asarray(canvas)[..., None]


def draw_text(
    picture: np.ndarray, text: str, corner: tuple[int, int], *, size: int, color: Color
) -> None:
    """Draw a line of text in place, its upper left corner at x, y."""
    x, y = corner
    alpha = _alpha(text, size)
    window = picture[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    alpha = alpha[: window.shape[0], : window.shape[1]].astype(np.uint16)
    colors = np.array(color, dtype=np.uint16)
    window[:] = (window * (255 - alpha) + colors * alpha) // 255


def shorten(text: str, *, size: int, width: int) -> str:
    """Return the text as one line; its middle is elided if it is wider than `width`."""
    text = " ".join(text.split())
    short, kept = text, len(text)
    while text_width(short, size) > width and kept > 1:
        kept -= 1
        short = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def wrap(text: str, *, size: int, width: int) -> list[str]:
    """Wrap a text to a width; existing line breaks are kept."""
    lines = [line for part in text.splitlines() for line in _wrap_line(part.split(), size, width)]
    return lines or [""]


def _wrap_line(words: Sequence[str], size: int, width: int) -> Iterator[str]:
    """Fill lines with words; a word that is wider than a line is broken."""
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if text_width(longer, size) <= width:
            line = longer
            continue
        if line:
            yield line
        *full, line = _break_word(word, size, width)
        yield from full
    yield line


def _break_word(word: str, size: int, width: int) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and text_width(pieces[-1] + letter, size) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def caption_strip(text: str, width: int, *, size: int = 14) -> np.ndarray:
    """Return an image of text wrapped to a width, (h, width, 3)."""
    margin = size // 2
    lines = wrap(text, size=size, width=max(width - 2 * margin, size))
    step = line_height(size)
    strip = np.full((step * len(lines) + 2 * margin, width, 3), BACKGROUND, dtype=np.uint8)
    for number, line in enumerate(lines):
        draw_text(strip, line, (margin, margin + step * number), size=size, color=FOREGROUND)
    return strip
