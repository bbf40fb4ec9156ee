"""Checks of the content of weight files, which can have anything in the places of weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

MAX_ID = 2**63


def check_tensors(tensors: Any, path: Path) -> None:
    """Refuse anything but a dictionary of plain tensors of real numbers, with their own memory."""
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{path}: its weights are a {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {name!r} among its weights is not a tensor")
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not is_plain or tensor.is_quantized or tensor.is_complex():
            kind = f"{tensor.layout} {tensor.dtype} on {tensor.device.type}"
            raise CheckpointError(f"{path}: {name} is not a tensor of numbers, but {kind}")
        if tensor.untyped_storage().nbytes() < tensor.nbytes:  # it would grow when converted
            raise CheckpointError(f"{path}: {name} has more values than the file")


def check_provenance(provenance: Any, path: Path) -> None:
    """Refuse provenance whose parts, where it has them, are not as `describe_run` returns them."""
    if not isinstance(provenance, dict):
        raise CheckpointError(f"{path}: its provenance is a {type(provenance).__name__}")
    given = {key: value for key, value in provenance.items() if value is not None}
    classes, ids = given.get("classes", {}), given.get("class_ids", {})
    is_valid = {
        **{key: isinstance(given.get(key, ""), str) for key in ("config", "network", "commit")},
        "classes": _are_lists(classes, str),
        "class_ids": _are_lists(classes, str)
        and _are_lists(ids, int)
        and all(len(ids[key]) == len(classes.get(key, ())) for key in ids),
        "data": _is_data(given.get("data", {})),
        "argv": _are_lists({"argv": given.get("argv", [])}, str),
        "steps": isinstance(given.get("steps", 0), int),
        "history": _is_history(given.get("history", [])),
    }
    for key, valid in is_valid.items():
        if not valid:
            raise CheckpointError(f"{path}: {key} in its provenance is not valid")


def _are_lists(table: Any, kind: type) -> bool:
    return isinstance(table, Mapping) and all(
        isinstance(values, list) and all(_is_entry(value, kind) for value in values)
        for values in table.values()
    )


def _is_entry(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (not isinstance(value, int) or abs(value) < MAX_ID)


def _is_data(data: Any) -> bool:
    """Whether a value is the fingerprint of data sets: a digest for each of their files."""
    return isinstance(data, dict) and all(
        isinstance(name, str)
        and isinstance(files, dict)
        and all(isinstance(each, dict | str) for each in files.values())
        and all(_is_folder(each) for each in files.values() if isinstance(each, dict))
        for name, files in data.items()
    )


def _is_folder(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("sha256"), str) and isinstance(entry.get("files"), int)


def _is_history(history: Any) -> bool:
    """Whether a value is a list of evaluations: their steps, and a number or None by metric."""
    return isinstance(history, list) and all(
        isinstance(each, dict)
        and isinstance(each.get("steps"), int)
        and all(isinstance(name, str) for name in each)
        and all(isinstance(value, int | float | None) for value in each.values())
        for each in history
    )
