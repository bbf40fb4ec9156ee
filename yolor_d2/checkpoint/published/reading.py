"""Safe reading of published .pt files, which pickle whole models.

Unpickling can call any function that a file names. These files are read by PyTorch's restricted
unpickler, which only rebuilds tensors and containers. Classes of the published code and of
PyTorch's modules are replaced by a placeholder that stores its state. Names in a file are never
imported.
"""

import sys
from _compat_pickle import IMPORT_MAPPING  # by the names of Python 2, which pickles use
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ...errors import CheckpointError, UnsafeError
from ..file_kinds import is_repacked, what_it_is

# Names that are read as placeholders: PyTorch's modules, names outside Python (3 or 2), PyTorch and
# NumPy, and the numbers, paths and settings of training scripts. All other names are refused.
OWN_PACKAGES = {*sys.stdlib_module_names, *IMPORT_MAPPING, "numpy", "torch"}
FOREIGN_PACKAGE = "torch.nn."
FOREIGN_NAMES = frozenset(
    {
        "argparse.Namespace",
        "datetime.datetime",
        "numpy.core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        "numpy.dtype",
        "numpy.ndarray",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "torch.torch_version.TorchVersion",
    }
)
MAX_MODULES = 20_000
# Where dictionaries have the weights, the averaged ones first; the last one is Lightning's.
MODEL_KEYS = ("ema", "model", "state_dict")


Part = TypeVar("Part", dict[Any, Any], set[Any])


class Placeholder:
    """Replaces an object of an unavailable class: ignores arguments, stores its state."""

    state: Mapping[str, Any] = {}

    def __new__(cls, *args: object, **kwargs: object) -> "Placeholder":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.state = state


class PublishedFile(NamedTuple):
    """Content of a published file.

    Attributes:
        tensors: by their published names, such as `model.0.conv.weight`.
        class_names: that a pickled model has; []: none.
    """

    tensors: dict[str, Tensor]
    class_names: list[str]


def read_published(path: Path) -> PublishedFile:
    """Read a published file.

    It has a state dict, a pickled model, or a dictionary with one of them under one of MODEL_KEYS.

    Raises:
        ValueError: the file has other content, or a name that is refused.
    """
    content, names = _load(path), []
    if isinstance(content, dict):
        present = [content[key] for key in MODEL_KEYS if content.get(key) is not None]
        content = present[0] if present else content
    if isinstance(content, Placeholder):
        names = _class_names(content.state.get("names"))
        content = dict(_tensors_of_module(content, path))
    if not isinstance(content, dict) or not content or not all(map(_is_entry, content.items())):
        raise CheckpointError(f"{path}: has neither a model nor a state dict")
    return PublishedFile({name: tensor.detach() for name, tensor in content.items()}, names)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a published file; see `read_published`."""
    return read_published(path).tensors


def _class_names(names: object) -> list[str]:
    """The `names` attribute of a pickled model: a list, or a dictionary with the class indices."""
    if isinstance(names, dict) and list(names) == list(range(len(names))):
        names = list(names.values())
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    return names


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _load(path: Path) -> Any:
    if is_repacked(path):
        repacked = "damaged, or a zip file that PyTorch did not write"
        raise CheckpointError(f"{path}: {what_it_is(path) or repacked}")
    try:
        names = _foreign_names(path)
        refused = sorted(name for name in names if not _is_foreign(name))
        if not refused:
            with safe_globals([(Placeholder, name) for name in names]):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and hostile files can raise any error
        if isinstance(error, OSError) and error.filename:
            raise
        damaged = f"damaged, or not readable without running it ({type(error).__name__})"
        raise CheckpointError(f"{path}: {what_it_is(path) or damaged}") from None
    raise UnsafeError(f"{path}: refused, as it names {', '.join(map(repr, refused))}")


def _is_foreign(name: str) -> bool:
    package = name.partition(".")[0]
    return name in FOREIGN_NAMES or name.startswith(FOREIGN_PACKAGE) or package not in OWN_PACKAGES


def _foreign_names(path: Path) -> list[str]:
    """Names in a file that PyTorch's restricted unpickler does not know; nothing is run."""
    try:
        return get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # PyTorch's format before version 1.6, or not a file of PyTorch
        return []


def _tensors_of_module(root: Placeholder, path: Path) -> Iterator[tuple[str, Tensor]]:
    """The entries of the module's state_dict()."""
    waiting = [("", root)]
    for _ in range(MAX_MODULES):
        if not waiting:
            return
        prefix, module = waiting.pop()
        transient = _part(module, "_non_persistent_buffers_set", set)
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _part(module, kind, dict).items():
                if isinstance(tensor, Tensor) and name not in transient:
                    yield f"{prefix}{name}", tensor
        children = reversed(_part(module, "_modules", dict).items())
        waiting += [
            (f"{prefix}{n}.", child) for n, child in children if isinstance(child, Placeholder)
        ]
    raise CheckpointError(f"{path}: its modules contain each other in a cycle")


def _part(module: Placeholder, name: str, kind: type[Part]) -> Part:
    """A part of the module's state; empty if missing."""
    value = module.state.get(name)
    return value if isinstance(value, kind) else kind()
