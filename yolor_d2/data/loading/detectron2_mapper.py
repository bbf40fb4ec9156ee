"""Calling detectron2's mappers, which use global generators and raise various exceptions."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.data.detection_utils import SizeMismatchError
from PIL import Image

from ...errors import BadFileError

Record = dict[str, Any]


def call_detectron2_mapper(
    mapper: Callable[[Record], Record | None], record: Record, *, seed: int
) -> Record | None:
    """Map a record under a seed; raise a BadFileError for a file that cannot be used."""
    try:
        with seeded(seed):
            return mapper(record)
    except (OSError, SyntaxError, SizeMismatchError) as error:  # of Pillow and of detectron2
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadFileError(_bad_file(record), reason) from None


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators inside the context; their states are restored afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed_everything(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _bad_file(record: Record) -> str:
    """Return the first file of a record that Pillow cannot read; the image if it can read all."""
    for key in ("file_name", "sem_seg_file_name"):
        if key in record:
            try:
                with Image.open(record[key]) as image:
                    image.load()
            except (OSError, SyntaxError, ValueError):
                return record[key]
    return record["file_name"]
