"""Refusing nonsense by the name of the key that it would come from."""

import math
from collections.abc import Collection


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
