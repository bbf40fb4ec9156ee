"""Reading whole files, on disk or inside zip archives.

`photos.zip/1.jpg` is the file 1.jpg of an archive or, where the archive has a folder of its own
name as COCO's archives have, photos/1.jpg.
"""

import errno
import io
import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ...errors import BadFileError, DataError, LabelError

ARCHIVE_SUFFIX = ".zip"
# What `zipfile` raises for damaged, encrypted and unsupported archives.
ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, MemoryError),
)
# A member of more bytes than this, and of more than this multiple of its bytes in the archive, is
# not read: annotations expand about tenfold.
BOMB_BYTES, BOMB_RATIO = 50_000_000, 100

# Open archives by process and path: a forked process must not share its parent's file position.
# An archive that has been replaced, which its number, size or time shows, is opened again.
_archives: dict[tuple[int, str], tuple[tuple[int, ...], zipfile.ZipFile]] = {}


def read_bytes(path: str) -> bytes:
    """Return the content of a file; raise a BadFileError if it is missing or empty."""
    try:
        data = Path(path).read_bytes()
    except NotADirectoryError:
        data = _read_member(path)
    except OSError as error:
        raise BadFileError(path, error.strerror or "cannot be read") from None
    except ValueError:  # a null character, or half of a character
        raise BadFileError(path, "is not a name of a file") from None
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
    except RecursionError:
        raise LabelError(f"{path}: is not valid JSON (its lists are nested too deeply)") from None


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


def path_of_name(folder: Path, name: str) -> Path:
    """Return the path of a file that labels name, which can have been written on Windows."""
    path = folder / name
    if "\\" in name and not os.path.exists(path):
        return folder / name.replace("\\", "/")
    return path


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
            member = opened.getinfo(name)
        except KeyError:
            member = opened.getinfo(f"{Path(archive).stem}/{name}")
        size = member.file_size
        if size > BOMB_BYTES and size > BOMB_RATIO * _stored_size(archive, member):
            raise BadFileError(path, f"expands to {size / 1e6:,.0f} MB, which is not read")
        return opened.read(member)
    except KeyError:
        raise BadFileError(path, "is not in the archive") from None
    except (OSError, *ZIP_ERRORS) as error:
        reason = str(error) or type(error).__name__
        raise BadFileError(path, f"cannot be read from the archive ({reason})") from None


def _stored_size(archive: str, member: zipfile.ZipInfo) -> int:
    """Return the bytes of a member in its archive, whatever its entry claims."""
    return min(member.compress_size, os.path.getsize(archive))


def _open(path: str) -> zipfile.ZipFile:
    """Return this process's open archive."""
    key, status = (os.getpid(), path), os.stat(path)
    version = (status.st_ino, status.st_size, status.st_mtime_ns)
    found = _archives.get(key)
    if found is None or found[0] != version:
        found = _archives[key] = version, zipfile.ZipFile(path)
    return found[1]
