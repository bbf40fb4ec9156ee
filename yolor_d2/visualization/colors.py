"""Names and colors of classes: those of the metadata, or defaults."""

import colorsys
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Color = tuple[int, int, int]

FOREGROUND: Color = (32, 32, 36)
BACKGROUND: Color = (250, 250, 248)

HUES = 24
SHADES = ((0.75, 0.95), (0.55, 0.8), (0.9, 0.7))  # saturation and value


def class_color(name: str) -> Color:
    """Return the default color of a class, which depends on its name only."""
    number = zlib.crc32(name.encode())
    saturation, value = SHADES[number // HUES % len(SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(number % HUES / HUES, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color_on(color: Color) -> Color:
    """Return FOREGROUND or BACKGROUND, whichever is readable on a color."""
    return BACKGROUND if np.dot(color, (0.299, 0.587, 0.114)) < 140 else FOREGROUND


class Classes(NamedTuple):
    """Names and colors by class index; either list can be too short or empty."""

    names: Sequence[str]
    colors: Sequence[Sequence[int]]

    @classmethod
    def of(cls, metadata: Any, kind: str) -> "Classes":
        """Read the "thing", "stuff" or "panoptic" classes of a data set's metadata."""
        names = getattr(metadata, f"{kind}_classes", None) or ()
        return cls(names, getattr(metadata, f"{kind}_colors", None) or ())

    def name(self, index: int) -> str:
        """Return the name of a class; "class <index>" if it has none."""
        return self.names[index] if 0 <= index < len(self.names) else f"class {index}"

    def color(self, index: int) -> Color:
        """Return the color of a class; `class_color` of its name if it has none."""
        if not 0 <= index < len(self.colors):
            return class_color(self.name(index))
        red, green, blue = self.colors[index]
        return int(red), int(green), int(blue)
