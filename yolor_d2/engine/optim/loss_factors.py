"""Factors on losses that change during training."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor

from ...errors import ConfigError


class LossFactors:
    """Factors on the losses of a step, as functions of the step, without state.

    Args:
        factors: patterns of losses' names, as of files ("loss_*_one_to_one"), each with the factor
            at the start and at the end of the run, between which it changes linearly. The last
            pattern that matches a name applies; other losses have the factor 1.
        total: number of steps of the run.
        key: of the factors, for messages.
    """

    def __init__(self, factors: Sequence[Sequence], *, total: int, key: str) -> None:
        for item in factors:
            if not (isinstance(item, list | tuple) and len(item) == 3 and item[0] != ""):
                raise ConfigError(
                    f"{key} has {item!r}; it must have lists of a pattern of losses' names, a "
                    "factor at the start and one at the end"
                )
        self.factors = [(str(name), float(start), float(end)) for name, start, end in factors]
        self.total = total
        self.key = key

    def apply(self, losses: Mapping[str, Tensor], iteration: int) -> dict[str, Tensor]:
        """The losses times their factors at a step.

        Raises:
            ValueError: a pattern matches no loss.
        """
        weighted = dict(losses)
        for pattern, start, end in self.factors:
            names = [name for name in losses if fnmatchcase(name, pattern)]
            if not names:
                raise ConfigError(
                    f"{self.key} has {pattern!r}, which matches none of the losses: "
                    f"{', '.join(losses)}"
                )
            factor = start + (end - start) * iteration / self.total
            weighted |= {name: factor * losses[name] for name in names}
        return weighted
