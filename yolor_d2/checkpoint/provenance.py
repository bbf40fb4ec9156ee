"""Provenance of results: configuration, code, libraries, data."""

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy
import torch
import torchvision

from ..files import replacing
from .saving import unwritable

PACKAGE = Path(__file__).parents[1]
GIT_SECONDS = 20

Provenance = dict[str, Any]


def describe_run(
    config_text: str,
    *,
    argv: Sequence[str],
    data: dict[str, Any],
    classes: dict[str, list[str]],
    class_ids: dict[str, list[int]] | None = None,
) -> Provenance:
    """Provenance as plain data for checkpoints, without machine-specific values.

    Args:
        config_text: the whole configuration as text.
        argv: arguments of the command.
        data: fingerprint of each data set.
        classes: class names, under "thing_classes" and "stuff_classes".
        class_ids: class ids in the data sets' files, under the same keys.

    Returns:
        The arguments, "commit" (None if the code is in no repository; with "+changes" if files
        differ from it), and "versions" of libraries.
    """
    return {
        "config": config_text,
        "argv": list(argv),
        "commit": commit(PACKAGE),
        "versions": versions(),
        "data": data,
        "classes": classes,
        "class_ids": class_ids or {},
    }


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write provenance.json to a folder."""
    path = folder / "provenance.json"
    try:
        with replacing(path, sync=True) as file:  # the folder must exist
            file.write((json.dumps(provenance, indent=2) + "\n").encode())
    except OSError as error:
        raise unwritable(path, error) from None


def commit(package: Path) -> str | None:
    """The commit of the repository whose top folder has the package; None without one."""
    # A package can be installed inside a repository of other code.
    if _git(package, "rev-parse", "--show-prefix") != f"{package.name}/":
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    return f"{_git(package, 'rev-parse', 'HEAD')}{'+changes' if changed else ''}"


def versions() -> dict[str, str | None]:
    """Versions of Python, CUDA and libraries that results depend on; None if unknown."""
    return {
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "torch": str(torch.__version__),
        "torchvision": torchvision.__version__,
        # Its __version__ is 0.6 for all later commits.
        "detectron2": _installed_version("detectron2"),
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
        "yolor_d2": _installed_version("yolor_d2"),
    }


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # used from a folder, not installed
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None if it fails or git is missing."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
