"""Releases: safetensors files of weights with their provenance."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import CheckpointError, DamagedError
from .file_kinds import what_it_is
from .saving import sealed, unwritable

SUFFIX = ".safetensors"
# The only entry of the metadata, a JSON text: the library does not keep the order of several.
METADATA_KEY = "yolor_d2"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class StoredWeights:
    """Content of a file of weights.

    Attributes:
        tensors: by our names.
        kind: "ema" or "raw"; "": unknown.
        provenance: as returned by `describe_run`, also "steps" and "history", the metrics of each
            evaluation; {}: unknown.
        tokenizer: serialized sentencepiece model; None: none.
        lacks_prefixes: whether names are those of a part of the network, such as its backbone.
    """

    tensors: dict[str, Tensor]
    kind: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    tokenizer: bytes | None = None
    lacks_prefixes: bool = False


def write_release(stored: StoredWeights, path: Path, *, dtype: str = "fp32") -> None:
    """Write weights with their provenance; the bytes are the same for the same weights.

    Args:
        stored: the weights.
        path: of the file, *.safetensors; its checksum is written beside it.
        dtype: "fp32", or "fp16" except for biases, norms and other vectors.

    Raises:
        CheckpointError: it cannot be written, or a weight is too large for fp16.
    """
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path}: must end in {SUFFIX}")
    metadata = {
        "provenance": stored.provenance,
        "weights": stored.kind,
        "dtype": dtype,
        "tokenizer": base64.b64encode(stored.tokenizer or b"").decode(),
    }
    content = save(
        {name: _as_stored(tensor, name, dtype) for name, tensor in stored.tensors.items()},
        metadata={METADATA_KEY: json.dumps(metadata)},
    )
    try:
        with sealed(path) as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, error) from None


def read_release(path: Path) -> StoredWeights:
    """Read a safetensors file. Files of other programs have no provenance."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
        kind = metadata.get("weights")
        return StoredWeights(
            tensors,
            kind=kind if kind in ("ema", "raw") else "",
            provenance=metadata.get("provenance", {}),
            tokenizer=base64.b64decode(metadata.get("tokenizer", "")) or None,
        )
    except Exception as error:  # damaged files can raise any error
        damaged = f"damaged, or no {SUFFIX} file ({type(error).__name__})"
        raise DamagedError(f"{path}: {what_it_is(path) or damaged}") from None


def _as_stored(tensor: Tensor, name: str, dtype: str) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.clone()
    # A copy, because the library refuses tensors that share memory.
    wanted = DTYPES[dtype] if tensor.dim() > 1 else torch.float32
    stored = tensor.to(wanted, copy=True, memory_format=torch.contiguous_format)
    if not torch.equal(stored.isfinite(), tensor.isfinite()):
        raise CheckpointError(f"{name} has a value too large for {dtype}")
    return stored
