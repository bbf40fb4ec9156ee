"""Checks of values, with errors that name the configuration key."""

import math
from collections.abc import Collection

from .errors import ConfigError


def check_range(
    key: str, values: dict[str, float], *, low: float = 0, high: float = math.inf
) -> None:
    """Refuse values outside a range.

    Args:
        key: configuration node of the values.
        values: values by the last part of their keys.
        low, high: limits, inclusive.
    """
    for name, value in values.items():
        if not low <= value <= high:
            allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise ConfigError(f"{key}.{name} is {value}; it must be {allowed}")


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        raise ConfigError(f"{key} must be one of {', '.join(choices)}, not {value}")


def check_names(key: str, names: Collection[str], known: Collection[str]) -> None:
    """Refuse an empty list of names and unknown names."""
    if not names:
        raise ConfigError(f"{key} is empty; it may have {', '.join(known)}")
    # Not by a difference of sets, which torch.compile does not support here.
    unknown = sorted(name for name in names if name not in known)
    if unknown:
        raise ConfigError(f"{key} has {', '.join(unknown)}; it may have {', '.join(known)}")
