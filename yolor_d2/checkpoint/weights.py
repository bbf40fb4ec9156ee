"""Loading weights of different file formats, with a report of mismatches."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.utils.file_io import PathManager
from tabulate import tabulate
from torch import Tensor, nn

from ..checks import check_choice
from ..errors import CheckpointError
from . import detectron2_weights
from .file_kinds import is_repacked
from .published import read_published, recognize, unwrapped
from .published.configuration import own_classes
from .release import SUFFIX, StoredWeights, read_release
from .saving import Content, check_digest, load_checkpoint
from .validity import check_provenance, check_tensors

KINDS = ("ema", "raw")
# Names of published networks: `model.0.conv.weight`, or `0.conv.weight` of MultimediaTechLab's.
PUBLISHED_NAME = re.compile(r"model\.\d+\.")
NUMBERED_NAME, FIRST_NUMBERED = re.compile(r"\d+\."), "0.conv.weight"
MAX_LISTED = 6
# Configuration keys that shapes depend on, by prefixes of names; the first match is used.
SHAPE_KEYS = {
    "backbone.": "MODEL.YOLOR_ELAN.WIDTH and DEPTH, or those of MODEL.GELAN",
    "detection_head.class_": "MODEL.DETECTION_HEAD.NUM_CLASSES",
    "detection_head.box_": "MODEL.DETECTION_HEAD.REG_MAX",
    "mask_head.": "MODEL.MASK_HEAD.NUM_PROTOTYPES",
    "semantic_head.": "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "caption_head.text.words": "MODEL.CAPTION_HEAD.VOCAB_SIZE and TOKENIZER.MODEL",
    "caption_head.": "the keys of MODEL.CAPTION_HEAD",
    "panoptic.": "DATASETS.TRAIN",
}


class Mismatch(NamedTuple):
    """A tensor whose shape in the file differs from that in the network."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """Report on loaded weights; its text is for the log.

    Attributes:
        path: of the file.
        kind: "ema" or "raw"; "": unknown.
        loaded: number of tensors of the network that were loaded.
        mismatched: tensors that were not loaded because of their shapes.
        missing: names that the file lacks; not loaded.
        unexpected: names that the network lacks.
    """

    path: Path
    kind: str
    loaded: int
    mismatched: list[Mismatch]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        lines = [f"{self.path}: {self.loaded} tensors loaded{kind}"]
        if self.mismatched:
            rows = [(name, f"{there}", f"{here}") for name, there, here in self.mismatched]
            headers = ("left as initialized: other shape", "file", "network")
            lines.append(tabulate(rows, headers, disable_numparse=True))
        for what, names in (
            ("left as initialized: not in the file", self.missing),
            ("not used: not in the network", self.unexpected),
        ):
            if names:
                lines.append(f"{what} ({len(names)}): {_listed(names)}")
        return "\n".join(lines)


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], *, prefer: str = "ema", strict: bool = False
) -> LoadReport:
    """Load the weights of a file that fit a network.

    Args:
        model: layers of which a tensor has another shape, as with another number of classes, keep
            all their values.
        path: our checkpoint or release (*.safetensors), a state dict, a checkpoint or ImageNet
            weights (*.pkl) of detectron2, or a file of the published networks.
        prefer: "ema" or "raw", the weights of a checkpoint that has both.
        strict: whether all weights of the network must be loaded.

    Raises:
        CheckpointError: the file cannot be read, no tensor fits, or, if strict, not all are loaded.
    """
    return load_stored(model, read_weights(path, prefer=prefer), Path(path), strict=strict)


def load_stored(
    model: nn.Module, stored: StoredWeights, path: Path, *, strict: bool = False
) -> LoadReport:
    """As `load_weights`, from a file that has been read; the path is for messages."""
    own = model.state_dict()
    if stored.lacks_prefixes:
        tensors = align_and_update_state_dicts(own, stored.tensors, c2_conversion=False)
        stored = replace(stored, tensors=tensors)
    mismatched = [
        Mismatch(name, tuple(stored.tensors[name].shape), tuple(value.shape))
        for name, value in own.items()
        if name in stored.tensors and stored.tensors[name].shape != value.shape
    ]
    left = {_layer(mismatch.name) for mismatch in mismatched}
    fitting = {name: t for name, t in stored.tensors.items() if _layer(name) not in left}
    loaded = len(fitting.keys() & own.keys())
    if mismatched and (strict or not loaded):
        name, there, here = mismatched[0]
        others = f" and {len(mismatched) - 1} more differ" if len(mismatched) > 1 else ""
        raise CheckpointError(
            f"{path}: {name} is {there}, the network's is {here}{others}; check "
            f"{_keys_of(mismatch.name for mismatch in mismatched)}"
        )
    if not loaded:
        raise CheckpointError(f"{path}: no tensor fits the network")
    # Layers that are not loaded get their own values, or they would count as missing.
    fitting |= {name: value for name, value in own.items() if _layer(name) in left}
    missing, unexpected = model.load_state_dict(fitting, strict=False)
    if strict and missing:
        parts = {name.partition(".")[0] for name in stored.tensors}
        has_parts = {name.partition(".")[0] for name in missing} <= parts
        keys = _keys_of(missing) if has_parts else "MODEL.YOLOR.TASKS"
        raise CheckpointError(f"{path}: lacks {_listed(missing)}; check {keys}")
    return LoadReport(path, stored.kind, loaded, mismatched, missing, unexpected)


def read_weights(path: str | os.PathLike[str], *, prefer: str = "ema") -> StoredWeights:
    """Read weights, with our names and in single precision, tokenizer and provenance of a file.

    Args:
        path, prefer: as for `load_weights`.

    Raises:
        CheckpointError: it is not a file of weights.
    """
    path = local_path(path)
    check_choice("TEST.WEIGHTS", prefer, KINDS)
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path}: {problem}")
    if path.suffix != SUFFIX and _is_ours(path):
        return stored_in_checkpoint(load_checkpoint(path), path, prefer)
    check_digest(path)
    if path.suffix == SUFFIX:
        stored = read_release(path)
    elif path.suffix == detectron2_weights.SUFFIX:
        stored = _detectron2_weights(path)
    else:
        stored = _read_foreign(path)
    return _checked(stored, path)


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path of a file; an address of detectron2, such as detectron2://..., is downloaded.

    Raises:
        CheckpointError: the download fails.
    """
    if "://" not in str(path):
        return Path(path)
    try:
        return Path(PathManager.get_local_path(str(path)))
    except Exception as error:  # libraries of many protocols can raise any error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: cannot be downloaded: {reason}") from None


def _detectron2_weights(path: Path) -> StoredWeights:
    tensors, lacks_prefixes = detectron2_weights.read_pickle(path)
    return StoredWeights(tensors, lacks_prefixes=lacks_prefixes)


def stored_in_checkpoint(content: Content, path: Path, prefer: str) -> StoredWeights:
    """The weights in the content of our checkpoint.

    Args:
        content: as `load_checkpoint` returns it.
        path: for messages.
        prefer: "ema" or "raw", if it has both.

    Raises:
        CheckpointError: it has other content.
    """
    kind = "ema" if prefer == "ema" and "ema" in content else "raw"
    holder, tokenizer = content["ema"] if kind == "ema" else content, content.get("tokenizer")
    if not isinstance(holder, dict) or "model" not in holder:
        raise CheckpointError(f"{path}: has no weights")
    if tokenizer is not None and not isinstance(tokenizer, Tensor):
        raise CheckpointError(f"{path}: its tokenizer is a {type(tokenizer).__name__}")
    check_provenance(content.get("provenance", {}), path)
    stored = StoredWeights(
        holder["model"],
        kind=kind,
        provenance=_with_history(content),
        tokenizer=None if tokenizer is None else tokenizer.numpy().tobytes(),
    )
    return _checked(stored, path)


def _with_history(content: Content) -> dict[str, Any]:
    """The provenance in a checkpoint, with its steps and the metrics of its evaluations."""
    keys = {"steps": "iteration", "history": "history"}
    added = {name: content[key] for name, key in keys.items() if key in content}
    return content.get("provenance", {}) | added


def _checked(stored: StoredWeights, path: Path) -> StoredWeights:
    """Valid weights, in single precision."""
    check_tensors(stored.tensors, path)
    check_provenance(stored.provenance, path)
    tensors = {
        name: tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        for name, tensor in stored.tensors.items()
    }
    return replace(stored, tensors=tensors)


def _is_ours(path: Path) -> bool:
    """Whether a file is one of our checkpoints; its tensors are not read."""
    if is_repacked(path):
        return False
    content: Any = None
    with suppress(Exception):  # damaged, foreign and hostile files can raise any error
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return isinstance(content, dict) and "format" in content


def _read_foreign(path: Path) -> StoredWeights:
    """Weights of detectron2 or a published network, or a state dict."""
    file = read_published(path)
    state = unwrapped(file.tensors)
    name = NUMBERED_NAME if FIRST_NUMBERED in state else PUBLISHED_NAME
    if not all(map(name.match, state)):
        return StoredWeights(state)
    try:
        network = recognize(state)
        weights = network.convert(state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    provenance: dict[str, Any] = {"network": network.name}
    if classes := own_classes(weights, file.class_names):
        provenance["classes"] = {"thing_classes": classes}
    return StoredWeights(weights, provenance=provenance)


def _layer(name: str) -> str:
    """The module of a tensor."""
    return name.rpartition(".")[0]


def _keys_of(names: Iterable[str]) -> str:
    """The configuration keys that the shapes of tensors most likely depend on."""
    fitting = {
        next((key for prefix, key in SHAPE_KEYS.items() if name.startswith(prefix)), "MODEL")
        for name in names
    }
    return ", ".join(sorted(fitting))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
