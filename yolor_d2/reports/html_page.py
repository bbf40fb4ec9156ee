"""HTML pages of pictures and text that need no server and no network."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..files import write_text

MAX_SIDE = 1600  # pixels of a picture on a page
MAX_EMBEDDED = 20 << 20  # bytes of pictures inside a page; further ones become files
JPEG_QUALITY = 85

STYLE = """
:root { color-scheme: light dark; --paper: #fafaf8; --ink: #202024; --faint: #6b6b72;
  --card: #ffffff; --line: #dcdcd8; }
@media (prefers-color-scheme: dark) { :root { --paper: #17181a; --ink: #e8e8e6; --faint: #9a9aa2;
  --card: #212327; --line: #36383d; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 110rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
nav a { margin-right: 1rem; } a { color: inherit; }
p, figcaption { overflow-wrap: anywhere; white-space: pre-line; }
p, .note { color: var(--faint); }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; padding: .6rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); flex: 0 1 auto; max-width: 100%; box-sizing: border-box; }
figure img { display: block; max-width: 100%; height: auto; border-radius: .25rem; }
figcaption { margin-top: .4rem; max-width: 40rem; }
""".strip()


class Figure(NamedTuple):
    """A picture (RGB) with a title and a note below it."""

    picture: np.ndarray
    title: str
    note: str = ""


class Section(NamedTuple):
    """Figures under a heading."""

    title: str
    figures: Sequence[Figure]
    note: str = ""


def write_page(
    folder: Path, *, title: str, note: str, sections: Iterable[Section], name: str = "index.html"
) -> Path:
    """Write a page; pictures beyond MAX_EMBEDDED bytes go to `folder`/pictures.

    Args:
        folder: output folder; is created.
        title, note: text at the top of the page.
        sections: sections of the page, linked at the top; can be a generator.
        name: file name of the page.

    Returns:
        The path of the page.
    """
    pictures = _Pictures(folder)
    links, parts = [], []
    for number, section in enumerate(sections):
        links.append(f'<a href="#s{number}">{html.escape(section.title)}</a>')
        parts.append(_section(number, section, pictures))
    text = "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            "</head>",
            "<body>",
            f"<h1>{html.escape(title)}</h1>",
            f"<p>{html.escape(note)}</p>",
            f"<nav>{' '.join(links)}</nav>",
            *parts,
            "</body>",
            "</html>\n",
        ]
    )
    path = folder / name
    write_text(path, text)
    return path


def _section(number: int, section: Section, pictures: "_Pictures") -> str:
    figures = [_figure(figure, pictures) for figure in section.figures]
    note = f"<p>{html.escape(section.note)}</p>\n" if section.note else ""
    return (
        f'<section id="s{number}">\n<h2>{html.escape(section.title)}</h2>\n{note}'
        f'<div class="figures">\n{"".join(figures)}</div>\n</section>'
    )


def _figure(figure: Figure, pictures: "_Pictures") -> str:
    picture = _shrink(figure.picture)
    height, width = picture.shape[:2]
    title, note = html.escape(figure.title), html.escape(figure.note)
    more = f'<br><span class="note">{note}</span>' if note else ""
    return (
        f'<figure><img src="{pictures.add(picture)}" alt="{title}" width="{width}" '
        f'height="{height}" loading="lazy"><figcaption>{title}{more}</figcaption></figure>\n'
    )


def _shrink(picture: np.ndarray) -> np.ndarray:
    """Limit the longer side of a picture to MAX_SIDE."""
    height, width = picture.shape[:2]
    factor = max(height, width) / MAX_SIDE
    if factor <= 1:
        return picture
    size = (max(round(width / factor), 1), max(round(height / factor), 1))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


class _Pictures:
    """The pictures of a page, embedded or as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._embedded = 0
        self._count = 0

    def add(self, picture: np.ndarray) -> str:
        """Store a picture and return its URL."""
        _, data = cv2.imencode(
            ".jpg",
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        )
        self._count += 1
        if self._embedded + len(data) <= MAX_EMBEDDED:
            self._embedded += len(data)
            return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        name = f"pictures/{self._count:04d}.jpg"
        (self._folder / "pictures").mkdir(parents=True, exist_ok=True)
        (self._folder / name).write_bytes(data.tobytes())
        return name
