"""Truthfulness of captions, for data sets with machine-readable scenes."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol


class Claim(Protocol):
    """One claim of a caption: its kind and words, and the true words ("" if ambiguous)."""

    @property
    def kind(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def is_true(self) -> bool: ...
    @property
    def truth(self) -> str: ...


class CaptionClaims(Protocol):
    """The claims of a caption, its unparsed words, and whether all of it is parsed and true."""

    @property
    def claims(self) -> Sequence[Claim]: ...
    @property
    def leftover(self) -> str: ...
    @property
    def is_truthful(self) -> bool: ...


# By image id; a caption can be raw or tokenized.
CaptionCheckers = Mapping[Any, Callable[[str], CaptionClaims]]


def check_captions(captions: Mapping[Any, str], checkers: CaptionCheckers) -> list[CaptionClaims]:
    """Check the captions of all images that have a checker."""
    return [checkers[i](caption) for i, caption in captions.items() if i in checkers]


def truthfulness(checks: Mapping[str, Sequence[CaptionClaims]]) -> dict[str, float]:
    """Return the shares of truthful captions, of grammatical captions, and of true claims by kind.

    Args:
        checks: checked captions by prefix of the metric names. All prefixes get the same metrics,
            so that they fit into one table; NaN where there is nothing to count.
    """
    shares = {prefix: _shares(of_prefix) for prefix, of_prefix in checks.items()}
    names = sorted({name for of_prefix in shares.values() for name in of_prefix})
    return {
        f"{prefix}{name}": of_prefix.get(name, math.nan)
        for prefix, of_prefix in shares.items()
        for name in names
    }


def confusion_csv(checks: Iterable[CaptionClaims]) -> str:
    """Count claims by kind, claimed words and true words."""
    counts = Counter(
        (claim.kind, claim.words, claim.truth) for check in checks for claim in check.claims
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "said", "true", "claims"])
    writer.writerows([*key, counts[key]] for key in sorted(counts))
    return text.getvalue()


def _shares(checks: Iterable[CaptionClaims]) -> dict[str, float]:
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for check in checks:
        outcomes["truthful"].append(check.is_truthful)
        outcomes["truthful_grammar"].append(not check.leftover)
        for claim in check.claims:
            outcomes[f"truthful_{claim.kind}"].append(claim.is_true)
    return {name: sum(true) / len(true) for name, true in outcomes.items()}
