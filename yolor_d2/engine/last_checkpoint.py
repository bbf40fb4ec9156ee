"""Where a run has got to: looked up by one process, known to all."""

import logging
from pathlib import Path

from detectron2.utils import comm

from ..checkpoint.run_folder import RunFolder
from ..checkpoint.saving import CheckpointError

logger = logging.getLogger(__name__)


def last_checkpoint(folder: RunFolder) -> Path | None:
    """The newest checkpoint of a run that is sound, if it has any; every process asks.

    Raises:
        CheckpointError: there are checkpoints, but no run can go on from them.
    """
    path = None
    if comm.is_main_process():
        found = folder.latest()
        path = found[0] if found else None
        if path is None and any(folder.path.glob("model_*.pth")):
            raise CheckpointError(
                f"{folder.path}: has checkpoints, but none that a run can go on from; "
                "MODEL.WEIGHTS can take them, in another OUTPUT_DIR"
            )
    return comm.all_gather(path)[0]


def weights_to_evaluate(weights: str, output_dir: str, *, resume: bool) -> str:
    """The last checkpoint of the run in a folder, if asked for and if there is one, else weights.

    As detectron2's `resume_or_load`.
    """
    if not resume:
        return weights
    path = last_checkpoint(RunFolder(output_dir))
    if path is None:
        logger.warning("%s has no checkpoint: evaluating %s", output_dir, weights or "nothing")
        return weights
    logger.info("evaluating %s", path)
    return str(path)
