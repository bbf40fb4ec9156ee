"""Names and colours of classes: those of the data set, else such as follow from the name."""

import colorsys
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Color = tuple[int, int, int]

INK: Color = (32, 32, 36)
PAPER: Color = (250, 250, 248)

HUES = 24
LOOKS = ((0.75, 0.95), (0.55, 0.8), (0.9, 0.7))  # saturation and value


def class_color(name: str) -> Color:
    """A colour that a class has in every picture of every run."""
    number = zlib.crc32(name.encode())
    saturation, value = LOOKS[number // HUES % len(LOOKS)]
    red, green, blue = colorsys.hsv_to_rgb(number % HUES / HUES, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def readable_ink(color: Color) -> Color:
    """Dark or light, whichever is easier to read on a colour."""
    return PAPER if np.dot(color, (0.299, 0.587, 0.114)) < 140 else INK


class Classes(NamedTuple):
    """A table of classes, which may know nothing of some or all of them."""

    names: Sequence[str]
    colors: Sequence[Sequence[int]]

    @classmethod
    def of(cls, metadata: Any, kind: str) -> "Classes":
        """The "thing", "stuff" or "panoptic" classes of a data set's metadata."""
        names = getattr(metadata, f"{kind}_classes", None) or ()
        return cls(names, getattr(metadata, f"{kind}_colors", None) or ())

    def name(self, index: int) -> str:
        """Its name, or its number as a text."""
        return self.names[index] if 0 <= index < len(self.names) else f"class {index}"

    def color(self, index: int) -> Color:
        """Its colour in the data set, or one of ours."""
        if not 0 <= index < len(self.colors):
            return class_color(self.name(index))
        red, green, blue = self.colors[index]
        return int(red), int(green), int(blue)
