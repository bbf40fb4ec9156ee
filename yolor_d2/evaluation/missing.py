"""Metrics without a value."""

import math

NOT_ANNOTATED = "no such object is annotated"


class Missing(float):
    """NaN with a reason: a metric that could not be computed."""

    reason: str

    def __new__(cls, reason: str) -> "Missing":
        number = super().__new__(cls, math.nan)
        number.reason = reason
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (self.reason,)
