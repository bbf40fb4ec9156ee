"""Safe reading of detectron2's *.pkl files, such as its ImageNet weights.

Unpickling can call any function that a file names. Here only NumPy arrays and containers are built.
"""

import pickle
import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from torch import Tensor

from ..errors import CheckpointError, UnsafeError
from .file_kinds import what_it_is

SUFFIX = ".pkl"
ALLOWED = frozenset(
    {
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
    }
)


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UnsafeError(f"names {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The weights of a file under detectron2's names, and whether they lack prefixes.

    ImageNet weights have the names of a ResNet alone ("res2.0.conv1.weight"). Files with the names
    of Caffe2 ("res2_0_branch2a_w") are converted.

    Raises:
        ValueError: the file has other content, or names anything but NumPy arrays.
    """
    try:
        data = path.read_bytes()
        _check_memo(data)
        content = _RestrictedUnpickler(BytesIO(data), encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # damaged and hostile files can raise any error
        damaged = f"damaged, or not readable without running it ({error})"
        kind = UnsafeError if isinstance(error, UnsafeError) else CheckpointError
        raise kind(f"{path}: {what_it_is(path) or damaged}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: has no weights")
    if "model" in content and "__author__" in content:  # as detectron2 writes them
        lacks_prefixes = bool(content.get("matching_heuristics", False))
        return _tensors(content["model"], path), lacks_prefixes
    tensors = _tensors(content.get("blobs", content), path)
    weights = {name: t for name, t in tensors.items() if not name.endswith("_momentum")}
    return convert_c2_detectron_names(weights)[0], True


def _check_memo(data: bytes) -> None:
    """Refuse numbers of stored objects beyond their count: memory is allocated for the largest."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise CheckpointError("stores an object out of order")


def _tensors(arrays: Any, path: Path) -> dict[str, Tensor]:
    """The arrays of numbers; other entries, such as a learning rate, are ignored."""
    entries = arrays.items() if isinstance(arrays, dict) else ()
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
        for name, array in entries
        if isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "fiu"
    }
    if not tensors:
        raise CheckpointError(f"{path}: has no weights")
    return tensors
