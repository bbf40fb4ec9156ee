"""Gathering results of all processes, and the order of image ids in files."""

from itertools import chain
from typing import Any

from detectron2.utils import comm


def gather(items: list[Any]) -> list[Any] | None:
    """Return the items of all processes in the main process, None in the others."""
    parts = comm.gather(items, dst=0)
    return list(chain.from_iterable(parts)) if comm.is_main_process() else None


def image_id_key(image_id: int | str) -> tuple[bool, int | str]:
    """Sort key of image ids, which can be numbers and names in one file: numbers first."""
    return isinstance(image_id, str), image_id
