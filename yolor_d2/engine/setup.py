"""Before the first step: configuration, output folder, generators, clear words when it fails."""

import logging
import os
import random
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.logger import setup_logger

from ..checkpoint.run_folder import RunFolder
from ..checkpoint.saving import CheckpointError
from ..model_zoo import load_config
from ..modeling.deploy import best_device
from .launch.processes import WRONG_USE
from .tokenizing import resolve_tokenizer

logger = logging.getLogger(__name__)

USER_ERRORS = (ValueError, CheckpointError, OSError)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and exit code 2; the traceback goes to the log."""
    try:
        yield
    except USER_ERRORS as error:
        logger.debug("the traceback of it", exc_info=True)
        say_error(error)
        raise SystemExit(WRONG_USE) from None


def say_error(error: BaseException | str) -> None:
    """To the log and, of processes that only log into files, to the terminal as well."""
    logger.error("%s", error)
    if comm.get_rank() > 0:
        sys.stderr.write(f"process {comm.get_rank()}: {error}\n")


def setup(args: Namespace) -> CfgNode:
    """The frozen configuration of a run or an evaluation, and an output folder that can be used."""
    cfg = load_config(args.config_file, args.opts)
    if cfg.MODEL.DEVICE == "cuda":
        cfg.MODEL.DEVICE = best_device()
    sources = [cfg.MODEL.WEIGHTS, cfg.TOKENIZER.MODEL]
    open_folder(cfg.OUTPUT_DIR, args, sources=sources)
    resolve_tokenizer(cfg, resume=args.resume)
    cfg.freeze()
    begin(args, config_text=cfg.dump(), seed=cfg.SEED)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only
    return cfg


def open_folder(output_dir: str, args: Namespace, *, sources: Sequence[str]) -> None:
    """Make sure that the output folder can be written and buries nothing; log into it.

    Args:
        output_dir: the folder.
        args: of the command line.
        sources: files that a new run begins with.
    """
    if comm.is_main_process():
        folder = RunFolder(output_dir)
        folder.check_writable(0)
        if not args.eval_only and not args.resume:
            check_anew(folder, overwrite=args.overwrite, sources=sources)
    comm.synchronize()
    set_up_logging(output_dir)


def begin(args: Namespace, *, config_text: str, seed: int) -> None:
    """Log what is going to happen, and seed the generators; a negative seed is random."""
    if comm.is_main_process():
        logger.debug("%s\n%s\n%s", args, collect_env_info(), config_text)
    shared = comm.all_gather(seed if seed >= 0 else random.SystemRandom().getrandbits(31))[0]
    seed_everything(shared + comm.get_rank())
    if args.deterministic:
        be_deterministic()


def set_up_logging(folder: str) -> None:
    """What a reader wants to see goes to the terminal, everything to the folder's log.txt."""
    # Looks for a compiler while the environment is described, and warns of what nobody asked for.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for name in ("fvcore", "detectron2", "yolor_d2"):
        log = setup_logger(folder, distributed_rank=comm.get_rank(), name=name)
        for handler in log.handlers:
            if type(handler) is logging.StreamHandler and handler.stream is sys.stdout:
                handler.setLevel(logging.INFO)


def check_anew(folder: RunFolder, *, overwrite: bool, sources: Sequence[str]) -> None:
    """A new run does not bury one that is there; what --overwrite removes goes when it begins."""
    if not folder.leftovers():
        return
    if not overwrite:
        raise ValueError(
            f"OUTPUT_DIR {folder.path} has a run already: --resume goes on with it, --overwrite "
            "removes it"
        )
    folder.lock()  # or another process is writing there
    folder.unlock()
    for source in sources:
        if source and Path(source).resolve() in (path.resolve() for path in folder.leftovers()):
            raise ValueError(f"{source} is in OUTPUT_DIR, which --overwrite empties")


def be_deterministic() -> None:
    """Let the same seed give the same numbers, bit for bit, at some cost of time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def seed_everything(seed: int) -> None:
    """The global generators of Python, NumPy, torch and CUDA."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  libraries use it
    torch.manual_seed(seed)
