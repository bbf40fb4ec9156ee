"""Atomic file writes: other processes see the old content or the new one, never a part."""

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_NAME = 200  # bytes; file systems have names of 255, and suffixes are added


def shorten_name(name: str) -> str:
    """Return a file name with whole characters, of at most LONGEST_NAME bytes."""
    while len(os.fsencode(name)) > LONGEST_NAME:
        name = name[:-1]
    return name


@contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Context of a file that replaces `path` once it is complete.

    Args:
        path: in an existing folder.
        sync: wait until the file is on the disk, so that a power failure cannot lose it.
    """
    temporary = path.with_name(f".{shorten_name(path.name)}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)
        raise


def replace_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write a file atomically, creating its folder; see `replacing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=sync) as file:
        file.write(content)


def write_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a text file atomically, creating its folder; see `replacing`."""
    replace_file(path, text.encode(), sync=sync)


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file atomically; NaN and infinity raise a ValueError."""
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    write_text(path, text + "\n")


def json_number(number: float) -> float | None:
    """Return a number for JSON: None (null) if it is NaN or infinite."""
    return float(number) if math.isfinite(number) else None


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # from network file systems without fsync of folders
            raise
    finally:
        os.close(descriptor)
