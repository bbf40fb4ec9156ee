"""Means over seeds, differences of variants seed by seed, and what they say about a claim."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .bench import Result
from .tables import Claim, Metric, Variant

Values = Mapping[int, float]  # by seed


class Difference(NamedTuple):
    """A metric's difference between two variants.

    Attributes:
        by_seed: difference with each seed that both have.
        error: standard error of the mean; NaN if no variant has two seeds.
    """

    by_seed: Values
    error: float

    @property
    def mean(self) -> float:
        return statistics.mean(self.by_seed.values()) if self.by_seed else math.nan


class Scores:
    """The final metrics of finished runs."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._final: dict[str, dict[int, Result]] = defaultdict(dict)
        for result in results:
            self._final[result["variant"]][result["seed"]] = result

    def runs(self, variant: Variant) -> list[Result]:
        """The results of a variant, by rising seed."""
        return [result for _, result in sorted(self._final[variant.name].items())]

    def values(self, variant: Variant, metric: Metric) -> dict[int, float]:
        """A metric of a variant by seed, scaled; seeds without it are left out."""
        return self._values(variant.name, metric)

    def _values(self, name: str, metric: Metric) -> dict[int, float]:
        last = {seed: run["evaluations"][-1] for seed, run in sorted(self._final[name].items())}
        numbers = {seed: metrics.get(metric.key) for seed, metrics in last.items()}
        return {seed: metric.scale * value for seed, value in numbers.items() if value is not None}

    def spread(self, metric: Metric) -> float:
        """Standard deviation between the seeds of a variant, over all variants; NaN if unknown."""
        squares, freedom = 0.0, 0
        for name in list(self._final):
            values = list(self._values(name, metric).values())
            if len(values) > 1:
                squares += (len(values) - 1) * statistics.variance(values)
                freedom += len(values) - 1
        return math.sqrt(squares / freedom) if freedom else math.nan

    def difference(self, better: Variant, worse: Variant, metric: Metric) -> Difference:
        """The difference seed by seed, as both have seen the same images in the same order.

        Its standard error is the larger of two: that of these differences, of which there are few,
        and that of the spread of all variants, which ignores the pairs.
        """
        first, second = self.values(better, metric), self.values(worse, metric)
        by_seed = {seed: first[seed] - second[seed] for seed in first if seed in second}
        if not by_seed:
            return Difference({}, math.nan)
        errors = [self.spread(metric) * math.sqrt(2 / len(by_seed))]
        if len(by_seed) > 1:
            errors.append(statistics.stdev(by_seed.values()) / math.sqrt(len(by_seed)))
        known = [error for error in errors if not math.isnan(error)]
        return Difference(by_seed, max(known, default=math.nan))


def verdict(claim: Claim, difference: Difference, seeds: Sequence[int]) -> str:
    """What the finished runs say about a claim."""
    by_seed, mean, error = difference.by_seed, difference.mean, difference.error
    if len(by_seed) < len(seeds):
        return f"open: {len(by_seed)} of {len(seeds)} seeds are there"
    if math.isnan(error):
        return "open: one seed has no spread"
    agree = sum(value > 0 for value in by_seed.values())
    count = f"{agree} of {len(by_seed)} seeds"
    if claim.equal:
        return _verdict_of_equality(mean, error)
    if abs(mean) <= error or 0 < agree < len(by_seed):
        return f"not shown: difference within the spread ({count})"
    extent = "beyond two standard errors" if abs(mean) > 2 * error else "in direction"
    if mean > 0:
        return f"holds {extent}: {count}"
    return f"contradicted {extent}: {count}"


def _verdict_of_equality(mean: float, error: float) -> str:
    if mean < -2 * error:
        return "contradicted: worse beyond two standard errors"
    if mean < -error:
        return "contradicted in direction: worse by more than a standard error"
    return "holds: not worse beyond the spread"
