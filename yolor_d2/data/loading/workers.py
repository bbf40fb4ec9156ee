"""What holds for every worker process of a loader."""

import ctypes
import os
import signal
import threading

import cv2
import torch


def prepare_worker(worker_id: int) -> None:
    """Let a worker use one thread, and end when its main process says so, not before.

    Ctrl-C and schedulers signal all processes of a run at once, while the main process still needs
    its workers for the step that it finishes. Loaders, which end workers by SIGTERM, still can.
    """
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS cannot tell who sends a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_says, daemon=True).start()


def _end_when_parent_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def use_one_thread() -> None:
    """Workers are many: each keeps to one thread, and to memory that it has."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()


def keep_freed_memory(limit: int = 32 << 20) -> None:
    """Let glibc reuse blocks up to this many bytes instead of returning them to the system.

    Images are such blocks, and the system clears each page anew: a few percent of a sample's time.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system or C library
        return
    for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        set_option(option, limit)
