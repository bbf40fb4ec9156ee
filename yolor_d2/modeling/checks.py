"""Refusing nonsense by the name of the key that it would come from."""

import math
from collections.abc import Collection, Sequence

from ..letterbox import MODES

WEAK_BN = ("update", "frozen")


def check_range(
    key: str, values: dict[str, float], *, low: float = 0, high: float = math.inf
) -> None:
    """Refuse what is not within low and high, both included.

    Args:
        key: of the configuration; each name of the values is put behind it.
        values: by name.
        low, high: what they may be.
    """
    for name, value in values.items():
        if not low <= value <= high:
            wanted = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise ValueError(f"{key}.{name} is {value}; it must be {wanted}")


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, not {value}")


def check_names(key: str, names: Collection[str], known: Collection[str]) -> None:
    """Refuse an empty list of names, and unknown ones."""
    if not names:
        raise ValueError(f"{key} is empty; it may have {', '.join(known)}")
    unknown = sorted(name for name in names if name not in known)  # without sets, it compiles
    if unknown:
        raise ValueError(f"{key} has {', '.join(unknown)}; it may have {', '.join(known)}")


def check_views(*, weak_bn: str, pad: str, strong_tasks: Collection[str]) -> None:
    """Refuse what is no way to treat the two views."""
    check_choice("MODEL.YOLOR.WEAK_BN", weak_bn, WEAK_BN)
    check_choice("MODEL.YOLOR.PAD", pad, MODES)
    if weak_bn == "frozen" and not strong_tasks:
        raise ValueError(
            "MODEL.YOLOR.WEAK_BN is frozen, but INPUT.WEAK_VIEW_TASKS has all tasks: nothing "
            "would ever move the statistics of batch norms"
        )


def check_pixels(mean: Sequence[float], deviation: Sequence[float]) -> None:
    """Refuse what images cannot be normalised by."""
    if len(mean) != len(deviation) or not all(deviation):
        raise ValueError(
            f"MODEL.PIXEL_MEAN is {list(mean)} and MODEL.PIXEL_STD is {list(deviation)}; they need "
            "a number for each channel, and deviations are not 0"
        )
