"""Pages are self-contained and escape all text."""

from pathlib import Path

import numpy as np
import pytest

from yolor_d2.reports import html_page
from yolor_d2.reports.html_page import Figure, Section, write_page

from .pages import Page

BLACK = np.zeros((30, 50, 3), np.uint8)
HOSTILE = '"><script>alert(1)</script>&amp;<b>'


def test_text_is_escaped(tmp_path: Path) -> None:
    figure = Figure(BLACK, HOSTILE, f"note {HOSTILE}")
    section = Section(HOSTILE, [figure], HOSTILE)
    path = write_page(tmp_path, title=HOSTILE, note=HOSTILE, sections=[section])
    assert "<b>" not in path.read_text("utf-8").replace("</b>", "")
    page = Page(path)
    assert page.headings == [HOSTILE]
    assert page.captions == [f"{HOSTILE}note {HOSTILE}"]
    assert page.text.count(HOSTILE) >= 5


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_pictures_are_embedded_or_files(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html_page, "MAX_EMBEDDED", limit)
    white = np.full((20, 30, 3), 255, np.uint8)
    figures = [Figure(BLACK, "black"), Figure(white, "white")]
    path = write_page(tmp_path, title="two", note="", sections=[Section("all", figures)])
    first, second = Page(path).pictures
    assert first.max() < 10
    assert second.min() > 245
    assert len(list(tmp_path.rglob("*.jpg"))) == (0 if limit else 2)


@pytest.mark.parametrize(("size", "shown"), [((8000, 5), (1600, 1)), ((1600, 10), (1600, 10))])
def test_large_pictures_are_shrunk(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    figures = [Figure(np.zeros((*size, 3), np.uint8), "")]
    path = write_page(tmp_path, title="large", note="", sections=[Section("all", figures)])
    assert Page(path).pictures[0].shape[:2] == shown


def test_an_empty_page(tmp_path: Path) -> None:
    page = Page(write_page(tmp_path / "new", title="nothing", note="here", sections=[]))
    assert page.pictures == []
    assert "nothing" in page.text
