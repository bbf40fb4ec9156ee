"""What a table is measured with."""

from pathlib import Path
from typing import NamedTuple


class Options(NamedTuple):
    """What a table is measured with.

    Attributes:
        folder: for data and runs.
        count: kills, steps or requests.
        seconds: after which no further row is begun, and long runs end.
        seed: of random moments and sizes.
    """

    folder: Path
    count: int
    seconds: float
    seed: int = 0
