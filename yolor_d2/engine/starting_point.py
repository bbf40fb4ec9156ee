"""Where a run starts: random weights, weights of a file, or its own last checkpoint.

A file is read and hashed once per process; tokenizer, weights and state are taken from the content.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from detectron2.utils import comm
from torch import nn

from ..checkpoint.release import StoredWeights
from ..checkpoint.run_folder import RunFolder
from ..checkpoint.saving import Content, load_checkpoint
from ..checkpoint.weights import (
    LoadReport,
    load_stored,
    local_path,
    read_weights,
    stored_in_checkpoint,
)
from ..errors import CheckpointError, ConfigError
from ..modeling import deploy

logger = logging.getLogger(__name__)

# Buffers of PanopticMerger. Only inference from a checkpoint alone uses the stored ones.
PANOPTIC_TABLES = "panoptic."


@dataclass(frozen=True)
class StartingPoint:
    """What a run or an evaluation starts from.

    Attributes:
        path: of the file; None without one.
        stored: its weights and tokenizer; None: weights are random.
        checkpoint: its whole content if the run is resumed, else None.
    """

    path: Path | None = None
    stored: StoredWeights | None = None
    checkpoint: Content | None = None

    @property
    def tokenizer(self) -> bytes | None:
        """The serialized tokenizer that the weights were trained with, if any."""
        return None if self.stored is None else self.stored.tokenizer

    def load_into(self, model: nn.Module, *, strict: bool = False) -> LoadReport:
        """Load the weights that fit a model, whose panoptic tables are those of its data.

        Args:
            model: layers of other shapes keep their values.
            strict: whether all weights of the model must be loaded.

        Raises:
            CheckpointError: no tensor fits, or, if strict, not all are loaded.
        """
        assert self.stored is not None
        assert self.path is not None
        tensors = self.stored.tensors.items()
        kept = {name: tensor for name, tensor in tensors if not name.startswith(PANOPTIC_TABLES)}
        return load_stored(model, replace(self.stored, tensors=kept), self.path, strict=strict)

    def trained_model(self, build: Callable[[], nn.Module], *, weights_key: str) -> nn.Module:
        """Build a model and load all its weights; return a copy that is folded for inference.

        Args:
            build: makes the model.
            weights_key: configuration key of the weights, for messages.

        Raises:
            ValueError: there are no weights.
            CheckpointError: a weight is missing or has another shape.
        """
        if self.stored is None:
            raise ConfigError(f"{weights_key} is empty: there is nothing to evaluate")
        model = build()
        logger.info("evaluating %s", self.path)
        self.load_into(model, strict=True)
        return deploy(model)


def find_starting_point(
    output_dir: str, *, weights: str, resume: bool, prefer: str = "ema"
) -> StartingPoint:
    """Read the last checkpoint of a run or the weights that it starts from; all processes call it.

    Args:
        output_dir: folder of the run.
        weights: file of weights for a new run; "": none.
        resume: whether to take the last checkpoint in the folder, if there is one.
        prefer: "ema" or "raw", the weights of a checkpoint that has both.

    Raises:
        CheckpointError: a file cannot be read, or all checkpoints are damaged.
    """
    if resume:
        found = last_checkpoint(RunFolder(output_dir))
        if found is not None:
            path, content = found
            return StartingPoint(path, stored_in_checkpoint(content, path, prefer), content)
        logger.warning("%s has no checkpoint to resume", output_dir)
    if weights:
        path = local_path(weights)
        return StartingPoint(path, read_weights(path, prefer=prefer))
    return StartingPoint()


def last_checkpoint(folder: RunFolder) -> tuple[Path, Content] | None:
    """The newest intact checkpoint of a run, chosen by the main process; None if there is none.

    Raises:
        CheckpointError: there are checkpoints, but a run cannot be resumed from any of them.
    """
    found = None
    if comm.is_main_process():
        found = folder.latest()
        if found is None and any(folder.path.glob("model_*.pth")):
            raise CheckpointError(
                f"{folder.path}: has checkpoints, but none that a run can be resumed from; "
                "MODEL.WEIGHTS can load them, with another OUTPUT_DIR"
            )
    path = comm.all_gather(found and found[0])[0]
    if path is None:
        return None
    return found or (path, load_checkpoint(path))
