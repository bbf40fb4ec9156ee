"""How much of what captions claim is true: for data sets that know the truth of their images."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol


class Claim(Protocol):
    """One thing that a caption says: what kind of thing, and "" as truth where that is unclear."""

    @property
    def kind(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def is_true(self) -> bool: ...
    @property
    def truth(self) -> str: ...


class Verdict(Protocol):
    """All that a caption says; whether the whole of it is understood and true."""

    @property
    def claims(self) -> Sequence[Claim]: ...
    @property
    def leftover(self) -> str: ...
    @property
    def is_truthful(self) -> bool: ...


# By image; a caption may be in words that are separated by blanks.
Judges = Mapping[Any, Callable[[str], Verdict]]


def verdicts_on(captions: Mapping[Any, str], judges: Judges) -> list[Verdict]:
    """On the captions of all images whose truth is known."""
    return [judges[i](caption) for i, caption in captions.items() if i in judges]


def truthfulness(answers: Mapping[str, Sequence[Verdict]]) -> dict[str, float]:
    """The share of captions that are truthful, of those that are grammatical, and of true claims.

    Args:
        answers: verdicts by what precedes the metrics' names. All get the same metrics, so that
            they can stand in one table, NaN where there is nothing to count.
    """
    shares = {name: _shares(verdicts) for name, verdicts in answers.items()}
    kinds = sorted({kind for of_one in shares.values() for kind in of_one})
    return {
        f"{name}{kind}": of_one.get(kind, math.nan)
        for name, of_one in shares.items()
        for kind in kinds
    }


def confusion_csv(verdicts: Iterable[Verdict]) -> str:
    """How often captions said what where what was true: kind, said, true, claims."""
    counts = Counter(
        (claim.kind, claim.words, claim.truth) for verdict in verdicts for claim in verdict.claims
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "said", "true", "claims"])
    writer.writerows([*key, counts[key]] for key in sorted(counts))
    return text.getvalue()


def _shares(verdicts: Iterable[Verdict]) -> dict[str, float]:
    found: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        found["truthful"].append(verdict.is_truthful)
        found["truthful_grammar"].append(not verdict.leftover)
        for claim in verdict.claims:
            found[f"truthful_{claim.kind}"].append(claim.is_true)
    return {name: sum(true) / len(true) for name, true in found.items()}
