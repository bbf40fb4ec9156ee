"""Set-up of the worker processes of a loader."""

import ctypes
import os
import signal
import threading

import cv2
import torch


def prepare_worker(worker_id: int) -> None:
    """Limit a worker to one thread and let only its parent process end it.

    Ctrl-C and schedulers signal all processes of a run at once, while the main process still needs
    its workers to finish the step. SIGTERM from the parent, which loaders send, still ends it.
    """
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS does not report the sender of a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_signal_of_parent, daemon=True).start()


def _exit_on_signal_of_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def use_one_thread() -> None:
    """Limit OpenCV and PyTorch to one thread, and let glibc reuse memory."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()


def keep_freed_memory(limit: int = 32 << 20) -> None:
    """Let glibc reuse blocks of up to `limit` bytes instead of returning them to the system.

    Images are such blocks; the system clears every new page, which costs a few percent of a
    sample's time.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system or C library
        return
    for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        set_option(option, limit)
