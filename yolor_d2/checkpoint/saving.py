"""Checkpoints on disk: whole or not there at all, and with nothing in them that could run.

A checkpoint is a dictionary of plain data and tensors. `<name>.sha256` beside it, as `sha256sum`
writes it, tells a damaged one.
"""

import errno
import hashlib
import logging
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

Content = dict[str, Any]

# Goes up when older code could not read, or would misread, what newer code writes.
FORMAT = 1
# What turns a checkpoint of an older format into one of the next.
UPGRADES: dict[int, Callable[[Content], Content]] = {}
PLAIN = (str, int, float, bool, type(None))
CONTAINERS = (dict, OrderedDict, list, tuple)


class CheckpointError(ValueError):
    """A checkpoint cannot be written or used: one line that names the file and the reason."""


class DamagedError(CheckpointError):
    """A file cannot be read, or is not what was once written."""


def unwritable(path: Path, error: OSError) -> CheckpointError:
    """What to raise when the system will not write."""
    return CheckpointError(f"{path}: cannot be written: {error.strerror or error}")


def save_checkpoint(data: Content, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint; whatever happens meanwhile, there is the old file or the new one.

    Args:
        data: plain data and tensors, of any device; the version of the format is added.
        path: of the file.

    Raises:
        CheckpointError: there is something else in the data, or the disk is full, read-only, ...
    """
    path = Path(path)
    content = {**portable(data), "format": FORMAT}
    try:
        with sealed(path) as file:
            torch.save(content, cast(BinaryIO, file))
    except OSError as error:
        raise unwritable(path, error) from None


def load_checkpoint(path: str | os.PathLike[str]) -> Content:
    """A checkpoint's content, tensors on the CPU; nothing that a file says is run.

    Raises:
        DamagedError: the file is not what was written, or cannot be read.
        CheckpointError: it is no checkpoint, or one of a newer version.
    """
    path = Path(path)
    is_sound = check_digest(path)
    if not is_sound:
        _check_parts(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is damaged or hostile may fail anywhere
        kind = type(error).__name__
        if is_sound:  # and an older one would fail as well
            problem = f"is no checkpoint of yolor_d2, or memory is short ({kind})"
            raise CheckpointError(f"{path}: {problem}") from None
        raise DamagedError(f"{path}: damaged, or no checkpoint of yolor_d2 ({kind})") from None
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: is no checkpoint of yolor_d2 (it has no format version)")
    if version > FORMAT:
        raise CheckpointError(
            f"{path}: was written by a newer version of yolor_d2 (format {version}; this one reads "
            f"formats up to {FORMAT})"
        )
    for older in range(version, FORMAT):
        content = UPGRADES[older](content)
    return content


def portable(value: Any, place: str = "") -> Any:
    """The same with tensors on the CPU; a CheckpointError names the place of what is not plain."""
    if type(value) in PLAIN:
        return value
    if type(value) in (Tensor, nn.Parameter):
        tensor = value.detach().cpu()
        # Of a slice, torch.save would write all that it was cut from.
        is_slice = tensor.untyped_storage().nbytes() > tensor.nbytes
        return tensor.clone() if is_slice else tensor
    if type(value) not in CONTAINERS:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CheckpointError(
            f"checkpoint: {place} is a {kind}; only tensors and plain data can be saved"
        )
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise CheckpointError(f"checkpoint: {place} has the key {key!r}, no text or number")
        return {key: portable(item, f"{place}[{key!r}]") for key, item in value.items()}
    return type(value)(portable(item, f"{place}[{index}]") for index, item in enumerate(value))


class HashedFile:
    """What torch.save writes to: a file that knows its checksum.

    An error is kept until `check`, because on its way through torch.save it would lose its name.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self._error is None:
            try:
                self._file.write(data)
                self._hash.update(data)
            except OSError as error:
                self._error = error
        return len(data)

    def flush(self) -> None:
        """Part of the interface that torch.save wants."""

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error

    def digest(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def sealed(path: Path) -> Iterator[HashedFile]:
    """A file to write that takes its place whole, with its checksum beside it.

    The checksum comes first. Until the file has followed, the one before it is valid, too: its
    checksum stays as a second line.
    """
    sidecar = sidecar_path(path)
    try:
        older = known_digests(path)
        with replacing(path) as file:
            hashed = HashedFile(file)
            yield hashed
            hashed.check()
            _write_digests(path, [hashed.digest(), *older])
        if older:
            _write_digests(path, [hashed.digest()])
    except OSError:
        if not path.exists():
            with suppress(OSError):
                sidecar.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place once it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small file, all of it or nothing."""
    with replacing(path) as file:
        file.write(text.encode())


def sidecar_path(path: Path) -> Path:
    """Where the checksum of a file is."""
    return path.with_name(f"{path.name}.sha256")


def known_digests(path: Path) -> list[str]:
    """The checksums that a file may have; [] where there is no file."""
    if not path.exists():
        return []
    try:
        lines = sidecar_path(path).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return [_digest(path)]
    return [line.partition(" ")[0] for line in lines]


def check_digest(path: Path) -> bool:
    """Compare a file with its checksum; whether it has one.

    Raises:
        DamagedError: they differ, or the file cannot be read.
    """
    sidecar = sidecar_path(path)
    try:
        if not sidecar.exists():
            return False
        if _digest(path) in known_digests(path):
            return True
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror or error}") from None
    raise DamagedError(f"{path}: damaged, its SHA-256 is not that in {sidecar.name}")


def _check_parts(path: Path) -> None:
    """What a file of torch.save, a zip file, can tell of itself without a checksum."""
    logger.info("%s: has no checksum beside it", path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception:  # zipfile's ways of saying so are many
        raise DamagedError(f"{path}: damaged, or no checkpoint of yolor_d2") from None
    if damaged is not None:
        raise DamagedError(f"{path}: damaged, at {damaged}")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_digests(path: Path, digests: list[str]) -> None:
    lines = (f"{digest}  {path.name}\n" for digest in dict.fromkeys(digests))
    write_text(sidecar_path(path), "".join(lines))


def _sync_folder(folder: Path) -> None:
    """Put a file's new name on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of network file systems that cannot do this for folders
            raise
    finally:
        os.close(descriptor)
