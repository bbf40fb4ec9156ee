"""The checkpoints of a run behind the interface of detectron2's checkpointer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm

from ..checkpoint.saving import Content, load_checkpoint
from ..checkpoint.weights import read_weights, stored_in_checkpoint
from ..errors import CheckpointError
from .run import Run
from .starting_point import StartingPoint, find_starting_point


class RunCheckpointer(DetectionCheckpointer):
    """Saves and loads the whole state of a run, for hooks and scripts written for detectron2.

    As in detectron2, the main process saves alone. Such a checkpoint has the random state of that
    process only: a run of several processes is resumed with other random numbers (dropout).
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run.model, str(run.folder.path), save_to_disk=comm.is_main_process())
        self.run = run

    def save(self, name: str, **kwargs: Any) -> None:
        """Save the run as <name>.pth; `kwargs` are ignored, because the state has them."""
        if self.save_to_disk:
            self.run.folder.save_as(self.run.own_checkpoint(), name)
            self.tag_last_checkpoint(f"{name}.pth")

    def load(self, path: str, checkpointables: Sequence[str] | None = None) -> Content:
        """Restore the run, or only load weights if `checkpointables` is []; "" does nothing."""
        if not path:
            return {}
        file = Path(self.path_manager.get_local_path(path))
        content = None
        if checkpointables is None:
            content = _content(file)
        if content is None:
            stored = read_weights(file)
        else:
            stored = stored_in_checkpoint(content, file, "ema")
        self.run.start_from(StartingPoint(file, stored, content))
        return content or {}

    def resume_or_load(self, path: str, *, resume: bool = True) -> Content:
        """Resume the run of the folder if there is one, else load the weights of a file."""
        start = find_starting_point(self.save_dir, weights=path, resume=resume)
        self.run.start_from(start)
        return start.checkpoint or {}

    def add_checkpointable(self, key: str, checkpointable: Any) -> None:
        raise TypeError(f"{key} would not be saved: give it to a hook that has a state_dict")


def _content(file: Path) -> Content | None:
    """The content of a run's checkpoint; None for other files of weights."""
    try:
        return load_checkpoint(file)
    except CheckpointError:
        return None
