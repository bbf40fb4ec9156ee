"""What the processes of an evaluation found, brought together."""

from itertools import chain
from typing import Any

from detectron2.utils import comm


def gather(items: list[Any]) -> list[Any] | None:
    """The items of all processes in the main one, None in the others."""
    parts = comm.gather(items, dst=0)
    return list(chain.from_iterable(parts)) if comm.is_main_process() else None
