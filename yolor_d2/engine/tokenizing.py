"""One tokenizer for the data, the model and the checkpoints of a run."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..checkpoint.run_folder import RunFolder
from ..checkpoint.weights import read_tokenizer
from ..data import build_tokenizer
from ..tokenizer import Tokenizer

logger = logging.getLogger(__name__)

FILE_NAME = "tokenizer.model"


def resolve_tokenizer(cfg: CfgNode, *, resume: bool = False) -> Tokenizer | None:
    """Choose the run's tokenizer, write it into OUTPUT_DIR, and let TOKENIZER.MODEL name that file.

    It is that of the checkpoint the run goes on from, else of MODEL.WEIGHTS, else TOKENIZER.MODEL,
    else one is trained from the captions of the training sets. The main process chooses.
    """
    if "caption" not in cfg.MODEL.YOLOR.TASKS:
        return None
    tokenizer = share_tokenizer(
        lambda: choose_tokenizer(
            resume_from=cfg.OUTPUT_DIR if resume else "",
            weights=cfg.MODEL.WEIGHTS,
            model=cfg.TOKENIZER.MODEL,
            train=lambda: build_tokenizer(cfg),
        ),
        output_dir=cfg.OUTPUT_DIR,
    )
    cfg.TOKENIZER.MODEL = str(Path(cfg.OUTPUT_DIR) / FILE_NAME)
    return tokenizer


def share_tokenizer(choose: Callable[[], Tokenizer], *, output_dir: str) -> Tokenizer:
    """What the main process chooses, for all processes and, on each machine, as a file."""
    proto = choose().model_proto if comm.is_main_process() else None
    tokenizer = Tokenizer(comm.all_gather(proto)[0])
    path = Path(output_dir) / FILE_NAME
    if comm.get_local_rank() == 0:  # machines need not share the folder
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        tokenizer.save(temporary)
        temporary.replace(path)
    comm.synchronize()
    return tokenizer


def choose_tokenizer(
    *, resume_from: str, weights: str, model: str, train: Callable[[], Tokenizer]
) -> Tokenizer:
    """The first that there is.

    Args:
        resume_from: folder of a run that goes on.
        weights: a checkpoint.
        model: a sentencepiece model.
        train: makes one.
    """
    found = RunFolder(resume_from).latest() if resume_from else None
    if found is not None and "tokenizer" in found[1]:
        tokenizer = Tokenizer(found[1]["tokenizer"].numpy().tobytes())
        if Path(model).is_file():  # runs also go on where the file is gone
            check_given(model, tokenizer, f"the run in {resume_from}")
        return tokenizer
    proto = read_tokenizer(weights) if weights else None
    if proto is None:
        tokenizer = Tokenizer.load(model) if model else train()
        logger.info("tokenizer of %d pieces: %s", len(tokenizer), model or "trained")
        return tokenizer
    tokenizer = Tokenizer(proto)
    if model:
        check_given(model, tokenizer, f"MODEL.WEIGHTS {weights}")
    return tokenizer


def check_given(model: str, tokenizer: Tokenizer, owner: str) -> None:
    """Refuse a sentencepiece model that is not the tokenizer of its owner's weights."""
    if Tokenizer.load(model) != tokenizer:
        raise ValueError(
            f"TOKENIZER.MODEL {model} is not the tokenizer that {owner} was trained with; "
            '"" takes the latter'
        )
