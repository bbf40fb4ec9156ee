"""One tokenizer for the data, the model and the checkpoints of a run."""

import logging
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..data import build_tokenizer
from ..errors import ConfigError
from ..files import replace_file
from ..tokenizer import Tokenizer
from .launch.processes import local_rank
from .starting_point import StartingPoint

logger = logging.getLogger(__name__)

FILE_NAME = "tokenizer.model"


def resolve_tokenizer(cfg: CfgNode, start: StartingPoint) -> Tokenizer | None:
    """Choose the run's tokenizer, write it to OUTPUT_DIR, and set TOKENIZER.MODEL to that file.

    It is the tokenizer of the starting point, else TOKENIZER.MODEL, else one is trained on the
    captions of the training sets. Without the caption task, the result is None.
    """
    if "caption" not in cfg.MODEL.YOLOR.TASKS:
        return None
    tokenizer = share_tokenizer(
        lambda: choose_tokenizer(
            start, model=cfg.TOKENIZER.MODEL, train=lambda: build_tokenizer(cfg)
        ),
        output_dir=cfg.OUTPUT_DIR,
    )
    cfg.TOKENIZER.MODEL = str(Path(cfg.OUTPUT_DIR) / FILE_NAME)
    return tokenizer


def share_tokenizer(choose: Callable[[], Tokenizer], *, output_dir: str) -> Tokenizer:
    """The tokenizer chosen by the main process, on all processes; also written on each machine."""
    proto = choose().model_proto if comm.is_main_process() else None
    tokenizer = Tokenizer(comm.all_gather(proto)[0])
    if local_rank() == 0:  # machines need not share the folder
        replace_file(Path(output_dir) / FILE_NAME, tokenizer.model_proto)
    comm.synchronize()
    return tokenizer


def choose_tokenizer(
    start: StartingPoint, *, model: str, train: Callable[[], Tokenizer]
) -> Tokenizer:
    """The tokenizer of the starting point, else a given one, else a new one.

    Args:
        start: of the run.
        model: file of a sentencepiece model; "": none.
        train: trains a new tokenizer.

    Raises:
        ValueError: the given tokenizer is not that of the starting point.
    """
    if start.tokenizer is None:
        if not model and _has_captions(start):
            logger.warning(
                "%s has a caption head but no tokenizer: its words are unknown, and a new "
                "tokenizer is trained; TOKENIZER.MODEL is the file of its words",
                start.path,
            )
        tokenizer = Tokenizer.load(model) if model else train()
        logger.info("tokenizer of %d pieces: %s", len(tokenizer), model or "trained")
        return tokenizer
    tokenizer = Tokenizer(start.tokenizer)
    is_resumed = start.checkpoint is not None
    # A run is resumed even if the file has been removed.
    is_given = bool(model) and not (is_resumed and not Path(model).is_file())
    if is_given and Tokenizer.load(model) != tokenizer:
        raise ConfigError(
            f"TOKENIZER.MODEL {model} is not the tokenizer that {start.path} was trained with; "
            '"" takes the latter'
        )
    return tokenizer


def _has_captions(start: StartingPoint) -> bool:
    tensors = {} if start.stored is None else start.stored.tensors
    return any(name.startswith("caption_head.") for name in tensors)
