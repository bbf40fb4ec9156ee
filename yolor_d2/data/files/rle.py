"""COCO's run lengths, whose own library trusts them."""


def run_lengths(counts: list[int] | str | bytes) -> list[int] | None:
    """The run lengths of COCO's RLE, compressed or not; None when they end within a number.

    Compressed: five bits a character, low ones first, the sixth bit says that more follow; from
    the fourth number on, what is written is the difference to the last but one.
    """
    if isinstance(counts, list):
        return counts
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs if shift == 0 else None


def covers(counts: list[int] | str | bytes, *, width: int, height: int) -> bool:
    """Whether runs fill an image. pycocotools fills the rest with whatever is in memory."""
    runs = run_lengths(counts)
    return runs is not None and min(runs, default=0) >= 0 and sum(runs) == width * height
