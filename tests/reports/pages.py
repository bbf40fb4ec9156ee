"""Parser of the HTML pages that the tools write."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

VOID_TAGS = {"meta", "img", "br"}


class Page(HTMLParser):
    """Content of a page; unclosed tags, dead links and external URLs fail."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.captions: list[str] = []
        self.pictures: list[np.ndarray] = []
        self.text = ""
        self._folder = path.parent
        self._open: list[str] = []
        self._ids: set[str] = set()
        self._links: set[str] = set()
        source = path.read_text("utf-8")
        assert "http" not in source
        assert "<script" not in source
        self.feed(source)
        self.close()
        assert self._open == []
        assert self._links == self._ids

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID_TAGS:
            self._open.append(tag)
        values = {name: value or "" for name, value in attrs}
        if tag == "figcaption":
            self.captions.append("")
        if tag == "section":
            self._ids.add(f"#{values['id']}")
        if tag == "a":
            self._links.add(values["href"])
        if tag == "img":
            self.pictures.append(self._read(values["src"]))
            assert self.pictures[-1].shape[:2] == (int(values["height"]), int(values["width"]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "h2" in self._open:
            self.headings.append(data)
        if "figcaption" in self._open:
            self.captions[-1] += data

    def _read(self, url: str) -> np.ndarray:
        kind, comma, content = url.partition(";base64,")
        data = base64.b64decode(content) if comma else (self._folder / url).read_bytes()
        assert kind == "data:image/jpeg" or not comma
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
