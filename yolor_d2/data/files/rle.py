"""Validation of COCO's run lengths, which pycocotools does not check."""

from typing import Any

LONGEST_NUMBER = 60  # bits


def run_lengths(counts: Any) -> list[int] | None:
    """Decode the run lengths of COCO's RLE, compressed or not; None if they are not valid.

    A compressed character has five bits of a number, lowest first; its sixth bit is set if more
    follow. From the fourth number on, the difference to the last but one is stored.
    """
    if isinstance(counts, list):
        return counts if all(isinstance(run, int) for run in counts) else None
    if not isinstance(counts, str | bytes):
        return None
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - 48
        if not 0 <= bits < 64 or shift > LONGEST_NUMBER:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs if shift == 0 else None


def covers(counts: Any, *, width: int, height: int) -> bool:
    """Whether runs fill an image exactly; pycocotools leaves uncovered pixels uninitialized."""
    runs = run_lengths(counts)
    return runs is not None and min(runs, default=0) >= 0 and sum(runs) == width * height
