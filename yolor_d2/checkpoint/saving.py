"""Checkpoint files: written atomically, with a checksum, and without code.

A checkpoint is a dictionary of plain data and tensors. `<name>.sha256` beside it has its checksum,
in the format of `sha256sum`.
"""

import hashlib
import logging
import os
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, DamagedError, UnwritableError
from ..files import replacing, write_text
from .file_kinds import is_repacked

logger = logging.getLogger(__name__)

Content = dict[str, Any]

# Increased when older code could not read, or would misread, new files.
FORMAT = 1
# Functions that convert a checkpoint of a format to the next one.
UPGRADES: dict[int, Callable[[Content], Content]] = {}
PLAIN = (str, int, float, bool, type(None))
CONTAINERS = (dict, OrderedDict, Counter, list, tuple)  # all mappings are saved as dict


def unwritable(path: Path, error: OSError) -> UnwritableError:
    """The error for a failed write."""
    return UnwritableError(f"{path}: cannot be written: {error.strerror or error}")


def save_checkpoint(data: Content, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint atomically: at any time, the file is the old or the new one.

    Args:
        data: plain data and tensors, on any device; the format version is added.
        path: of the file.

    Raises:
        CheckpointError: the data have another type, or writing fails.
    """
    path = Path(path)
    content = {**portable(data), "format": FORMAT}
    try:
        with sealed(path) as file:
            torch.save(content, cast(BinaryIO, file))
    except OSError as error:
        raise unwritable(path, error) from None


def load_checkpoint(path: str | os.PathLike[str]) -> Content:
    """The content of a checkpoint, with tensors on the CPU; no code of the file is run.

    Raises:
        DamagedError: the file has changed since it was written, or cannot be read.
        CheckpointError: it is not a checkpoint, or of a newer version.
    """
    path = Path(path)
    is_intact = check_digest(path)
    if is_repacked(path):
        raise DamagedError(f"{path}: damaged, or not a checkpoint of yolor_d2")
    if not is_intact:
        _check_parts(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and hostile files can raise any error
        kind = type(error).__name__
        if is_intact:  # an older checkpoint would fail as well
            problem = f"is not a checkpoint of yolor_d2, or memory is exhausted ({kind})"
            raise CheckpointError(f"{path}: {problem}") from None
        raise DamagedError(f"{path}: damaged, or not a checkpoint of yolor_d2 ({kind})") from None
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: is not a checkpoint of yolor_d2 (it has no format version)")
    if version > FORMAT:
        raise CheckpointError(
            f"{path}: was written by a newer version of yolor_d2 (format {version}; this one reads "
            f"formats up to {FORMAT})"
        )
    for older in range(version, FORMAT):
        content = UPGRADES[older](content)
    return content


def portable(value: Any, place: str = "") -> Any:
    """The value with tensors on the CPU; a CheckpointError names the place of other types."""
    if type(value) in PLAIN:
        return value
    if type(value) in (Tensor, nn.Parameter):
        tensor = value.detach().cpu()
        # torch.save would write the whole storage of a slice.
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
                raise CheckpointError(
                    f"checkpoint: {place} has the key {key!r}, which is not a text or an integer"
                )
        return {key: portable(item, f"{place}[{key!r}]") for key, item in value.items()}
    return type(value)(portable(item, f"{place}[{index}]") for index, item in enumerate(value))


class HashedFile:
    """A file for torch.save that computes its checksum.

    An error is stored until `check`, because torch.save would replace it by another one.
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
        """Required by torch.save."""

    def check(self) -> None:
        """Raise the stored error, if any."""
        if self._error is not None:
            raise self._error

    def digest(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def sealed(path: Path) -> Iterator[HashedFile]:
    """Context of a file that is written atomically, with its checksum beside it.

    The checksum is written first. Until the file is replaced, the checksum of the earlier file is
    kept as a second line.
    """
    sidecar = sidecar_path(path)
    try:
        older = known_digests(path)
        with replacing(path, sync=True) as file:
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


def sidecar_path(path: Path) -> Path:
    """The path of a file's checksum."""
    return path.with_name(f"{path.name}.sha256")


def known_digests(path: Path) -> list[str]:
    """The valid checksums of a file; [] if there is no file."""
    if not path.exists():
        return []
    try:
        lines = sidecar_path(path).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return [file_digest(path)]
    return [line.partition(" ")[0] for line in lines]


def check_digest(path: Path) -> bool:
    """Compare a file with its checksum; return whether there is a checksum.

    Raises:
        DamagedError: they differ, or the file cannot be read.
    """
    sidecar = sidecar_path(path)
    try:
        if not sidecar.exists():
            return False
        if file_digest(path) in known_digests(path):
            return True
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror or error}") from None
    raise DamagedError(f"{path}: damaged, its SHA-256 is not that in {sidecar.name}")


def _check_parts(path: Path) -> None:
    """Check the checksums inside a file of torch.save, which is a zip file."""
    logger.info("%s: has no checksum beside it", path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception:  # zipfile raises many types
        raise DamagedError(f"{path}: damaged, or not a checkpoint of yolor_d2") from None
    if damaged is not None:
        raise DamagedError(f"{path}: damaged, at {damaged}")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_digests(path: Path, digests: list[str]) -> None:
    lines = (f"{digest}  {path.name}\n" for digest in dict.fromkeys(digests))
    write_text(sidecar_path(path), "".join(lines), sync=True)
