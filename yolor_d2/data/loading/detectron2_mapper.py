"""Calling detectron2's mappers: they draw from global generators and fail in many ways."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.data.detection_utils import SizeMismatchError
from PIL import Image

from ..errors import BadFileError

Record = dict[str, Any]


def call_foreign(
    mapper: Callable[[Record], Record | None], record: Record, *, seed: int
) -> Record | None:
    """What a mapper makes of a record, as its seed decides; a BadFileError for a bad file."""
    try:
        with seeded(seed):
            return mapper(record)
    except (OSError, SyntaxError, SizeMismatchError) as error:  # of Pillow and of detectron2
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadFileError(_culprit(record), reason) from None


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for a while; afterwards they go on as if nothing had been."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed_everything(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _culprit(record: Record) -> str:
    """The first file of a record that Pillow cannot read; its image if it can read them all."""
    for key in ("file_name", "sem_seg_file_name"):
        if key in record:
            try:
                with Image.open(record[key]) as image:
                    image.load()
            except (OSError, SyntaxError, ValueError):
                return record[key]
    return record["file_name"]
