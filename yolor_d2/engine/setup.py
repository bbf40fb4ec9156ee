"""Before the first step: output folder, log, random generators, one-line errors."""

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
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.logger import setup_logger

from ..checkpoint.run_folder import RunFolder
from ..data.errors import BadFileError
from .launch.errors import print_error
from .launch.processes import WRONG_USE

logger = logging.getLogger(__name__)

PRINTED = "is_printed"  # attribute of log records that are on the terminal already
USER_ERRORS = (ValueError, BadFileError, OSError)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn user errors into one line and exit code 2; the traceback goes to the log file."""
    try:
        yield
    except USER_ERRORS as error:
        logger.debug("traceback of the error", exc_info=True)
        log_error(error)
        raise SystemExit(WRONG_USE) from None


def log_error(error: BaseException | str) -> None:
    """Log an error into the log file, and print it on the terminal."""
    if logger.hasHandlers():
        logger.error("%s", error, extra={PRINTED: True})
    process = f"process {comm.get_rank()}: " if comm.get_rank() > 0 else ""
    print_error(f"{process}{error}")


def open_folder(output_dir: str, args: Namespace, *, sources: Sequence[str]) -> None:
    """Check that the output folder is writable and has no run that would be lost; log into it.

    Args:
        output_dir: the folder.
        args: of the command line.
        sources: files that a new run reads.
    """
    if comm.is_main_process():
        folder = RunFolder(output_dir)
        folder.check_writable(0)
        if not args.eval_only and not args.resume:
            check_new_run(folder, overwrite=args.overwrite, sources=sources)
    comm.synchronize()
    set_up_logging(output_dir)


def log_and_seed(args: Namespace, *, config_text: str, seed: int) -> None:
    """Log the environment and the configuration, and seed the generators.

    Args:
        args: of the command line.
        config_text: the whole configuration.
        seed: of the first process; others add their number. Negative: random.
    """
    if comm.is_main_process():
        logger.debug("%s\n%s\n%s", args, collect_env_info(), config_text)
    shared = comm.all_gather(seed if seed >= 0 else random.SystemRandom().getrandbits(31))[0]
    seed_everything(shared + comm.get_rank())
    if args.deterministic:
        be_deterministic()


def set_up_logging(folder: str) -> None:
    """Log level INFO and above to the terminal, and everything to log.txt in the folder."""
    # It warns if it finds no compiler when the environment is collected, which is irrelevant here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for name in ("fvcore", "detectron2", "yolor_d2"):
        log = setup_logger(folder, distributed_rank=comm.get_rank(), name=name)
        for handler in log.handlers:
            if type(handler) is logging.StreamHandler and handler.stream is sys.stdout:
                handler.setLevel(logging.INFO)
                handler.addFilter(_is_not_printed)


def _is_not_printed(record: logging.LogRecord) -> bool:
    return not hasattr(record, PRINTED)


def check_new_run(folder: RunFolder, *, overwrite: bool, sources: Sequence[str]) -> None:
    """Refuse a new run in the folder of another, except with --overwrite.

    The files are removed when training begins.
    """
    if not folder.leftovers():
        return
    if not overwrite:
        raise ValueError(
            f"OUTPUT_DIR {folder.path} has a run already: --resume continues it, --overwrite "
            "removes it"
        )
    folder.lock()  # fails if another process is writing there
    folder.unlock()
    for source in sources:
        if source and Path(source).resolve() in (path.resolve() for path in folder.leftovers()):
            raise ValueError(f"{source} is in OUTPUT_DIR, which --overwrite empties")


def be_deterministic() -> None:
    """Make results of a seed reproducible bit by bit, at some cost of time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy, torch and CUDA."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  libraries use it
    torch.manual_seed(seed)
