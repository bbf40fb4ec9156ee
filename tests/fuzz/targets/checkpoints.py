"""The folder of a run, of which one byte after the other is damaged."""

import math
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from yolor_d2.checkpoint.run_folder import RunFolder
from yolor_d2.checkpoint.saving import load_checkpoint

from ...checkpoint.faults import content
from ..byte_mutators import flip_bit, mutate_bytes
from ..cases import GIVEN, Case, Target
from ..corpus import Files

BEFORE, NEWEST = "model_0000009.pth", "model_0000019.pth"
CHECKSUM = f"{NEWEST}.sha256"
GOLDEN = 0.618034
KINDS = ("with checksum", "without checksum", "other damage")


def prepare() -> Files:
    """Return the files of a run with two checkpoints."""
    with TemporaryDirectory() as name:
        folder = RunFolder(name)
        for iteration in (9, 19):
            folder.save(content(iteration), iteration)
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def mutate(rng: Random, index: int, corpus: Files) -> Case:
    """Flip a bit of each byte of the newest checkpoint in turn, in a spread order.

    After eight rounds, each bit of the file has been flipped, with and without a checksum.
    """
    files, kind = dict(corpus), KINDS[index % len(KINDS)]
    size = len(files[NEWEST])
    step = next(k for k in range(int(size * GOLDEN), size) if math.gcd(k, size) == 1)
    number = index // len(KINDS)
    position, bit = number * step % size, (number % size + number // size) % 8
    what = f"{kind}, bit {bit} of byte {position} of {size}"
    if kind == "other damage":
        name = rng.choice((NEWEST, NEWEST, CHECKSUM, "last_checkpoint"))
        files[name], what = mutate_bytes(rng, files[name])
        what = f"{name}: {what}"
        if rng.random() < 0.3:
            files.pop(CHECKSUM)
    else:
        files[NEWEST] = flip_bit(files[NEWEST], position, bit)
        if kind == "without checksum":
            files.pop(CHECKSUM)
    return Case(files, kind, what)


def run(corpus: Files, case: Case) -> int | None:
    """The newest checkpoint is used only with its exact content; else the one before is."""
    found = RunFolder(GIVEN).latest()
    assert found is not None, "there is no checkpoint"
    path, data = found
    iteration = {BEFORE: 9, NEWEST: 19}[path.name]
    assert is_equal(data, {**content(iteration), "format": 1}), f"{path.name} has other content"
    if case.files[NEWEST] == corpus[NEWEST]:
        is_sealed = case.files.get(CHECKSUM, corpus[CHECKSUM]) == corpus[CHECKSUM]
        assert iteration == 19 or not is_sealed, "an intact checkpoint is not used"
    elif CHECKSUM in case.files:
        assert iteration == 9, "the damage is not noticed"
    if iteration == 9:
        load_checkpoint(Path(GIVEN) / NEWEST)  # its error, one line
    return None


def is_equal(found: Any, expected: Any) -> bool:
    """Whether two checkpoints are the same."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            is_equal(found[key], expected[key]) for key in expected
        )
    if hasattr(expected, "shape"):
        return found.dtype == expected.dtype and found.tolist() == expected.tolist()
    return type(found) is type(expected) and bool(found == expected)


CHECKPOINTS = Target(
    about="each byte of a run's newest checkpoint; right: its content, or the one before",
    prepare=prepare,
    mutate=mutate,
    run=run,
)
