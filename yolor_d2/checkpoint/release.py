"""Weights for others to use: safetensors files that say where they come from."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .saving import CheckpointError, DamagedError, sealed, unwritable

SUFFIX = ".safetensors"
# The one entry of the metadata, a JSON text: of several the library would shuffle the order.
METADATA_KEY = "yolor_d2"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class StoredWeights:
    """What a file of weights holds.

    Attributes:
        tensors: by our names.
        kind: "ema" or "raw", "" where the file does not say.
        provenance: what `describe_run` gave, {} where the file does not say.
        tokenizer: a serialised sentencepiece model, if there is one.
    """

    tensors: dict[str, Tensor]
    kind: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    tokenizer: bytes | None = None


def write_release(stored: StoredWeights, path: Path, *, dtype: str = "fp32") -> None:
    """Write weights with their provenance; the same weights always give the same bytes.

    Args:
        stored: what to write.
        path: of the file, *.safetensors; its checksum goes beside it.
        dtype: "fp32", or "fp16" for all but biases, norms and other vectors.

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
    """A safetensors file, ours or another's, which then has no provenance."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
        return StoredWeights(
            tensors,
            kind=metadata.get("weights", ""),
            provenance=metadata.get("provenance", {}),
            tokenizer=base64.b64decode(metadata.get("tokenizer", "")) or None,
        )
    except Exception as error:  # what is damaged may fail anywhere
        kind = type(error).__name__
        raise DamagedError(f"{path}: damaged, or no {SUFFIX} file ({kind})") from None


def _as_stored(tensor: Tensor, name: str, dtype: str) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.clone()
    # A copy, as the library takes no two tensors of the same memory.
    wanted = DTYPES[dtype] if tensor.dim() > 1 else torch.float32
    stored = tensor.to(wanted, copy=True, memory_format=torch.contiguous_format)
    if not torch.equal(stored.isfinite(), tensor.isfinite()):
        raise CheckpointError(f"{name} has a value that is too large for {dtype}")
    return stored
