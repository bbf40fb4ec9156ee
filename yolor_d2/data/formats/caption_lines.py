"""metadata.jsonl: a line of JSON with an image's name and captions, as in Hugging Face folders."""

import json
from pathlib import Path
from typing import Any

from ...errors import DataError, LabelError
from ..catalog.entries import is_text
from .image_files import existing_file, list_files, part_of
from .lines import line_error, read_lines
from .source import Collected, OwnData

FILE = "metadata.jsonl"
TEXT_KEYS = ("text", "caption", "captions")


def find_files(path: Path) -> list[Path]:
    """Return the path if it is a metadata.jsonl, or all such files below a folder."""
    if path.is_file():
        return [path] if path.suffix == ".jsonl" else []
    return [file for file in list_files(path, (".jsonl",)) if file.name == FILE]


def read(path: Path) -> OwnData:
    """Read the captions of all files; an image can have several lines."""
    root = path if path.is_dir() else path.parent
    found: dict[tuple[str, Path], list[str]] = {}
    missing = []
    for file in find_files(path):
        for number, line in read_lines(file):
            try:
                name, captions = _read_line(line)
            except DataError as error:
                raise line_error(file, number, str(error)) from None
            image = existing_file(name, [file.parent])
            if image is None:
                missing.append(name)
            else:
                found.setdefault((part_of(image, root), image), []).extend(captions)
    collected = Collected(root, missing=missing)
    for (part, image), captions in found.items():
        collected.add(part, image, captions=captions)
    return collected.finish(list_files(root))


def _read_line(line: str) -> tuple[str, list[str]]:
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise LabelError(f"is not valid JSON ({error})") from None
    except RecursionError:
        raise LabelError("is not valid JSON (its lists are nested too deeply)") from None
    if not isinstance(entry, dict) or not is_text(entry.get("file_name")):
        raise LabelError("has no file_name")
    key = next((key for key in TEXT_KEYS if key in entry), None)
    if key is None:
        raise LabelError(f"has no {', '.join(TEXT_KEYS[:-1])} or {TEXT_KEYS[-1]}")
    texts = entry[key] if isinstance(entry[key], list) else [entry[key]]
    if not texts or not all(is_text(text) and text.strip() for text in texts):
        raise LabelError(f"{key} is not a text")
    return entry["file_name"], texts
