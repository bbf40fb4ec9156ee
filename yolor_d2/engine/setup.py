"""Before the first step: output folder, log, random generators; errors in one line."""

import inspect
import logging
import os
import random
import sys
import threading
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
from ..errors import DataError, ImageError, OutputError, family_of, line_of, message_of, print_error
from .launch.processes import WRONG_USE
from .log_file import LogFile, log_files

logger = logging.getLogger(__name__)

PRINTED = "is_printed"  # attribute of log records that are on the terminal already


@contextmanager
def logged_errors(*others: type[Exception], exit_code: int = WRONG_USE) -> Iterator[None]:
    """Turn errors that users can cause into one line; the traceback goes to the log file.

    Args:
        others: exceptions to handle besides those of a family; by default, those that users can
            cause before the first step.
        exit_code: of the process; wrong data always have WRONG_USE.
    """
    try:
        yield
    except Exception as error:
        family = family_of(error)
        if family is None and not isinstance(error, others or (ValueError, OSError)):
            raise
        log_error(error)
        is_data = family is not None and issubclass(family, DataError | ImageError)
        raise SystemExit(WRONG_USE if is_data else exit_code) from None


def log_error(error: Exception) -> None:
    """Print an error on the terminal, and log it and the current traceback into the log file."""
    message = line_of(error)
    if logger.hasHandlers():
        logger.debug("traceback of the error", exc_info=True)
        logger.error("%s", message, extra={PRINTED: True})
    process = f"process {comm.get_rank()}: " if comm.get_rank() > 0 else ""
    print_error(f"{process}{message}")


def open_folder(output_dir: str, args: Namespace, *, sources: Sequence[str]) -> None:
    """Check that the output folder is writable and has no run that would be lost; log into it.

    Args:
        output_dir: the folder.
        args: of the command line.
        sources: files that a new run reads.
    """
    if comm.is_main_process():
        folder = RunFolder(output_dir)
        folder.check_writable()
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
    rank = comm.get_rank()
    path = Path(folder) / (f"log.txt.rank{rank}" if rank else "log.txt")  # as in detectron2
    loggers = [logging.getLogger(name) for name in ("fvcore", "detectron2", "yolor_d2")]
    file = next((found for log in loggers for found in log_files(log, path)), None) or LogFile(path)
    for log in loggers:
        if not any(_is_terminal(handler) for handler in log.handlers):
            # It remembers its calls, but the handler of an earlier one may have been removed.
            inspect.unwrap(setup_logger)(distributed_rank=rank, name=log.name)
        for handler in filter(_is_terminal, log.handlers):
            handler.setLevel(logging.INFO)
            handler.addFilter(_is_not_printed)
        log.addHandler(file)  # once
    threading.excepthook = log_thread_error


def log_thread_error(error: threading.ExceptHookArgs) -> None:
    """Log an error that ends a thread; one of the system, such as a full disk, as one line."""
    if not issubclass(error.exc_type, OSError) or error.exc_value is None:
        threading.__excepthook__(error)
        return
    name = "a thread" if error.thread is None else error.thread.name
    logger.debug("traceback of %s", name, exc_info=error.exc_value)
    logger.warning("%s ended: %s", name, message_of(error.exc_value))


def _is_terminal(handler: logging.Handler) -> bool:
    return type(handler) is logging.StreamHandler and handler.stream is sys.stdout


def _is_not_printed(record: logging.LogRecord) -> bool:
    return not hasattr(record, PRINTED)


def check_new_run(folder: RunFolder, *, overwrite: bool, sources: Sequence[str]) -> None:
    """Refuse a new run in the folder of another, except with --overwrite.

    The files are removed when training begins.
    """
    if not folder.leftovers():
        return
    if not overwrite:
        raise OutputError(
            f"OUTPUT_DIR {folder.path} has a run already: --resume continues it, --overwrite "
            "removes it"
        )
    folder.lock()  # fails if another process is writing there
    folder.unlock()
    for source in sources:
        if source and Path(source).resolve() in (path.resolve() for path in folder.leftovers()):
            raise OutputError(f"{source} is in OUTPUT_DIR, which --overwrite empties")


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
