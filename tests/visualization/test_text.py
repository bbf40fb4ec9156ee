"""Text of many alphabets is drawn and fits its width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolor_d2.visualization.colors import BACKGROUND
from yolor_d2.visualization.text import caption_strip, shorten, text_size_for, text_width, wrap


@pytest.mark.parametrize("text", ["a ball", "кошка", "Straßenbahn", "ελληνικά", "é", "ñandú"])
def test_alphabets_have_glyphs(text: str) -> None:
    strip, unknown = caption_strip(text, 200), caption_strip("\uffff" * len(text), 200)
    assert (strip < 128).any()
    assert (strip != unknown).any()


@given(st.text(max_size=80), st.integers(20, 300))
def test_wrapped_lines_fit_the_width(text: str, width: int) -> None:
    lines = wrap(text, size=14, width=width)
    assert lines
    assert all(text_width(line, 14) <= width or len(line) == 1 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.text(min_size=1, max_size=60), st.integers(30, 200))
def test_long_texts_are_elided_in_the_middle(text: str, width: int) -> None:
    short = shorten(text, size=14, width=width)
    assert text_width(short, 14) <= width
    plain = " ".join(text.split())
    assert short == plain or "…" in short
    assert short[:1] == plain[:1]


def test_captions_wrap() -> None:
    assert caption_strip("many words " * 20, 200).shape[0] > 5 * 14
    assert caption_strip("", 200).shape[1] == 200
    assert (caption_strip("", 200) == BACKGROUND).all()
    assert caption_strip("two\nlines", 200).shape[0] > caption_strip("one line", 200).shape[0]


def test_text_size_grows_with_the_picture() -> None:
    sides = (10, 200, 640, 4000)
    sizes = [text_size_for(np.empty((side, side, 3), np.uint8)) for side in sides]
    assert sizes == [12, 12, 16, 100]
