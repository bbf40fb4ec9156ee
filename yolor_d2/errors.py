"""Errors that users can cause: families with a short code, each explained on one page.

The code is the last part of the printed line and a heading of docs/troubleshooting.md. All families
are ValueErrors. An exception without a family is a bug, or an error of a Python caller.
"""

import errno
import re
import sys
from pathlib import Path
from typing import ClassVar

PAGE = "docs/troubleshooting.md"
LONGEST = 500  # characters of a message, of which the first and the last are kept
KEPT_AT_END = 150

# Signs that a message itself says what to do. If one is missing here, the line also has the hint of
# the family.
ADVICE = re.compile(
    r"; (?!see |\d)|--\w|\b(must|needs?|pip install|Remedies)\b|\b(choose|check|pass|use) "
    r"|[:,] (or )?(repair|run|copy|unpack|download|rename|omit|raise|call) "
)


class UserError(ValueError):
    """An error that a user can cause. The message is one line that names the file or the key.

    Attributes:
        code: short name of the family; it is stable.
        hint: the next thing to try, for messages that do not say it.
    """

    code: ClassVar[str] = ""
    hint: ClassVar[str] = ""


class ConfigError(UserError):
    """A configuration file, a key or a value is wrong, or names something unknown."""

    code = "CONFIG"
    hint = "see docs/reference/configuration.md"


class OptionError(UserError):
    """An option or argument of a command is wrong."""

    code = "OPTION"
    hint = "--help explains all options"


class DataError(UserError):
    """A data set is missing, cannot be used as a whole, or does not fit the network."""

    code = "DATA"
    hint = "see docs/reference/data_formats.md"


class LabelError(DataError):
    """An annotation is wrong; the message names the file and the line or id."""

    code = "LABEL"
    hint = "correct the file"


class ImageError(UserError):
    """Images, label maps or videos cannot be read."""

    code = "IMAGE"
    hint = "check the path and the file"


class BadFileError(ImageError):
    """A single file of a data set cannot be used; training continues without it."""

    def __init__(self, path: str, reason: str = "") -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.reason else self.path


class CheckpointError(UserError):
    """A checkpoint or weights cannot be used: missing, of another network, or of another kind."""

    code = "WEIGHTS"
    hint = "check the path and the file"


class DamagedError(CheckpointError):
    """A checkpoint cannot be read, or has changed since it was written."""

    hint = "copy or download it again"


class UnsafeError(CheckpointError):
    """Reading the weights would run code of the file."""

    code = "UNSAFE"
    hint = "ask its author for a state dict or *.safetensors"


class OutputError(UserError):
    """The output folder is in use, or has files of something else."""

    code = "OUTPUT"
    hint = "choose another folder"


class DiskError(UserError):
    """A file cannot be written."""

    code = "DISK"
    hint = "free some space, or choose another folder"


class UnwritableError(DiskError, CheckpointError):
    """A checkpoint cannot be written."""


class FileError(UserError):
    """Another file, such as a tokenizer or results, cannot be read."""

    code = "FILE"
    hint = "check the path and the file"


class NonFiniteError(UserError, FloatingPointError):
    """Training cannot continue: a loss, a gradient or a statistic is infinite or not a number."""

    code = "NAN"
    hint = "lower SOLVER.BASE_LR"


class OutOfMemoryError(UserError):
    """The memory of the GPU or of the machine is not enough."""

    code = "MEMORY"
    hint = "use fewer or smaller images at a time"


class PackageError(UserError):
    """An optional package or program is missing."""

    code = "PACKAGE"
    hint = "yolor-d2 doctor lists what is missing"


class ExportError(UserError):
    """A network cannot be exported, or an exported network cannot be run."""

    code = "EXPORT"
    hint = "export it again"


class WebError(UserError):
    """The web page refuses an upload, or cannot predict in time."""

    code = "WEB"
    hint = "try another picture, or later"


FAMILIES: dict[str, type[UserError]] = {
    family.code: family
    for family in (
        *(ConfigError, OptionError, DataError, LabelError, ImageError, CheckpointError),
        *(UnsafeError, OutputError, DiskError, FileError, NonFiniteError, OutOfMemoryError),
        *(PackageError, ExportError, WebError),
    )
}
# Errors of the system that are no FileError.
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
# Ends of a KeyError's message in detectron2's registries and catalogs.
UNKNOWN_NAMES = {" registry!": ConfigError, " is not registered!": DataError}


def family_of(error: object) -> type[UserError] | None:
    """The family of an exception, also of a library; None for bugs and errors of callers."""
    code = getattr(error, "code", None)  # the exported runner has a class of its own
    if isinstance(error, Exception) and isinstance(code, str) and code in FAMILIES:
        return type(error) if isinstance(error, UserError) else FAMILIES[code]
    if isinstance(error, OSError) and error.errno is not None:
        return DiskError if error.errno in CANNOT_WRITE else FileError
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of PyTorch
        return OutOfMemoryError
    if isinstance(error, KeyError):
        found = (f for words, f in UNKNOWN_NAMES.items() if words in str(error))
        return next(found, None)
    return None


def print_error(error: object, *, is_last: bool = True) -> None:
    """Print one line: "yolor-d2 train: ..." or, for a script, "train_net.py: ...".

    Args:
        error: an exception, or a text.
        is_last: the command ends with this error; others are one of a list, without a page.
    """
    typed = sys.argv[0]
    command = typed if typed.startswith("yolor-d2 ") else Path(typed).name
    sys.stderr.write(f"{command}: {line_of(error, has_page=is_last)}\n")


def line_of(error: object, *, has_page: bool = True) -> str:
    """The message of an exception with the code of its family and, if needed, the hint.

    Args:
        error: an exception, or a text.
        has_page: also name the page that explains the family.
    """
    message, family = message_of(error), family_of(error)
    if family is None:
        return message
    message = message.rstrip(".!") or type(error).__name__
    if not has_page:
        return f"{message} [{family.code}]"
    hint = "" if ADVICE.search(message) else f"; {family.hint}"
    return f"{message}{hint} [{family.code}: {PAGE}#{family.code.lower()}]"


def message_of(error: object) -> str:
    """The message of an exception, or any other text, in one line.

    Args:
        error: can be from a worker of PyTorch's loader, with a traceback as its message.
    """
    if isinstance(error, OSError) and error.strerror:
        parts = [error.filename, error.strerror]
        return _shortened(": ".join(str(part) for part in parts if part is not None))
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if type(error).__name__ == "OutOfMemoryError" and not isinstance(error, UserError):
        text = text.partition("GPU ")[0]  # PyTorch goes on about the sizes of its pools
    lines = [line.strip() for line in text.strip().splitlines()] or [""]
    if lines[0].startswith("Caught ") and "in DataLoader worker" in lines[0]:
        lines = [lines[-1].partition(": ")[2] or lines[-1]]  # without the name of the exception
    return _shortened(" ".join(lines))


def _shortened(line: str) -> str:
    """A line without its middle, if that is long: values in files can have any length."""
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST - KEPT_AT_END]} ... {line[-KEPT_AT_END:]}"
