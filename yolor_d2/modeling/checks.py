"""Refusing nonsense by the name of the key that it would come from."""

import math


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
