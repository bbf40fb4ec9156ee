"""Reading whole files, on disk or inside zip archives.

`photos.zip/1.jpg` is the file 1.jpg of an archive or, where the archive has a folder of its own
name as COCO's archives have, photos/1.jpg.
"""

import errno
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ...errors import BadFileError, DataError, LabelError

ARCHIVE_SUFFIX = ".zip"
# What `zipfile` raises for damaged, encrypted and unsupported archives.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)

# Open archives by process and path: a forked process must not share its parent's file position.
_archives: dict[tuple[int, str], zipfile.ZipFile] = {}


def read_bytes(path: str) -> bytes:
    """Return the content of a file; raise a BadFileError if it is missing or empty."""
    try:
        data = Path(path).read_bytes()
    except NotADirectoryError:
        data = _read_member(path)
    except OSError as error:
        raise BadFileError(path, error.strerror or "cannot be read") from None
    if not data:
        raise BadFileError(path, "is empty")
    return data


def read_json(path: Path, *, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the content of a JSON file; raise a DataError if that fails.

    Args:
        path: the file.
        object_hook: replaces each object, as in `json.load`.
    """
    try:
        with open_header(str(path)) as file:
            return json.load(file, object_hook=object_hook)
    except BadFileError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise LabelError(f"{path}: is not valid JSON ({error})") from None


def open_header(path: str) -> BinaryIO:
    """Open a file to read its first bytes; the content of an archive's member is read whole.

    Raises:
        OSError: the file cannot be opened.
        BadFileError: the member of an archive cannot be read.
    """
    try:
        return open(path, "rb")
    except NotADirectoryError:
        return io.BytesIO(read_bytes(path))


def archive_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of an archive's files, without the folder that has the archive's name."""
    name = str(path)
    try:
        members = _open(name).namelist()
    except (OSError, *ZIP_ERRORS) as error:
        raise BadFileError(name, f"cannot be read as a zip archive ({error})") from None
    prefix = f"{Path(name).stem}/"
    return [m.removeprefix(prefix) for m in members if not m.endswith("/")]


def split_archive(path: str) -> tuple[str, str] | None:
    """Return the archive and the name inside it; None if no part of the path is an archive."""
    for parent in Path(path).parents:
        if parent.suffix.lower() == ARCHIVE_SUFFIX and parent.is_file():
            return str(parent), str(PurePosixPath(path).relative_to(parent))
    return None


def _read_member(path: str) -> bytes:
    found = split_archive(path)
    if found is None:
        raise BadFileError(path, os.strerror(errno.ENOTDIR))
    archive, name = found
    if ".." in PurePosixPath(name).parts:
        raise BadFileError(path, "leaves its archive")
    try:
        opened = _open(archive)
        try:
            return opened.read(name)
        except KeyError:
            return opened.read(f"{Path(archive).stem}/{name}")
    except KeyError:
        raise BadFileError(path, "is not in the archive") from None
    except (OSError, *ZIP_ERRORS) as error:
        raise BadFileError(path, f"cannot be read from the archive ({error})") from None


def _open(path: str) -> zipfile.ZipFile:
    """Return this process's open archive."""
    key = (os.getpid(), path)
    if key not in _archives:
        _archives[key] = zipfile.ZipFile(path)
    return _archives[key]
