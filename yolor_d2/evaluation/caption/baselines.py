"""What captions score that know nothing of the picture, or everything.

Scores say little alone: a caption that suits every picture somewhat can have a fine BLEU. So they
are printed beside these baselines. All captions here are in words, separated by blanks.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import precook
from tabulate import tabulate

from .metrics import METRICS

BASELINES = {
    "sixth": "a sixth true caption",
    "constant": "one constant caption",
    "other": "a caption of another image",
}

_CLAIMS = "truthful_"


def baseline_captions(
    references: Mapping[int, Sequence[str]], sixth: Mapping[int, str]
) -> dict[str, dict[int, str]]:
    """The captions of those of the BASELINES that there are.

    Args:
        references: true captions of the images that are scored.
        sixth: one more true caption of some or all images.
    """
    captions = {
        "sixth": {i: sixth[i] for i in references if i in sixth},
        "constant": dict.fromkeys(references, constant_caption(references)),
        "other": other_captions(references),
    }
    return {name: answers for name, answers in captions.items() if answers}


def constant_caption(references: Mapping[int, Sequence[str]]) -> str:
    """The reference with the best BLEU-4 as the answer to every image; of equals the first.

    BLEU counts an n-gram's k-th occurrence as right in the images with a reference that has it k
    times. How many those are is counted once, so that 25,000 captions are judged in a second.
    """
    cooked = {text: precook(text) for texts in references.values() for text in texts}
    repeated = {
        text: [(n, k) for n, count in counts.items() if count > 1 for k in range(2, count + 1)]
        for text, (_, counts) in cooked.items()
    }
    images_with: Counter[Any] = Counter()  # an n-gram, or (an n-gram, how often at least)
    for texts in references.values():
        images_with.update(set().union(*(cooked[text][1] for text in texts)))
        images_with.update(set().union(*(repeated[text] for text in texts)))
    closest = _closest_lengths(references, {length for length, _ in cooked.values()})

    def bleu(text: str) -> float:
        length, counts = cooked[text]
        right = [0] * 4
        for ngram in counts:
            right[len(ngram) - 1] += images_with[ngram]
        for ngram, k in repeated[text]:
            right[len(ngram) - 1] += images_with[ngram, k]
        total = [len(references) * max(length - n, 0) for n in range(4)]
        # As small as pycocoevalcap has it, for captions of less than four words.
        precision = math.prod((r + 1e-15) / (t + 1e-9) for r, t in zip(right, total, strict=True))
        words = len(references) * length
        return precision**0.25 * math.exp(min(0, 1 - closest[length] / words)) if words else 0.0

    return max(cooked, key=bleu)


def _closest_lengths(references: Mapping[int, Sequence[str]], lengths: set[int]) -> dict[int, int]:
    """For each length the sum, over all images, of the reference length that is closest to it."""
    most = max(map(len, references.values()))
    of_images = np.full((len(references), most), np.iinfo(np.int32).max)  # (images, references)
    for row, texts in zip(of_images, references.values(), strict=True):
        row[: len(texts)] = [len(text.split()) for text in texts]
    of_images.sort(axis=1)  # of two equally close ones the shorter counts
    rows = np.arange(len(references))
    return {
        length: int(of_images[rows, np.abs(of_images - length).argmin(axis=1)].sum())
        for length in lengths
    }


def other_captions(references: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """For each image the first reference of the next one, by id; none where there is one image."""
    ids = sorted(references, key=lambda i: (isinstance(i, str), i))
    return {i: references[j][0] for i, j in zip(ids, ids[1:] + ids[:1], strict=True) if i != j}


def caption_table(metrics: Mapping[str, float]) -> str:
    """The numbers of a model and, under them, those of the BASELINES, in Markdown.

    The shares of single kinds of claims have a table of their own.

    Args:
        metrics: METRICS, those of the baselines, and whatever else there is of the model.
    """
    columns = [name for name in metrics if name.partition("_")[0] not in BASELINES]
    claims = [name for name in columns if name.startswith(_CLAIMS)]
    rest = [name for name in columns if name not in claims]
    tables = [_table("caption", {name: name for name in rest}, metrics)]
    if claims:
        heads = {name: name.removeprefix(_CLAIMS) for name in claims}
        tables.append(_table("true claims", heads, metrics))
    return "\n\n".join(tables)


def _table(title: str, columns: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Some metrics, with what stands above each."""
    rows = [["model", *(_cell(metrics[column]) for column in columns)]]
    for name, description in BASELINES.items():
        if f"{name}_{METRICS[0]}" in metrics:
            numbers = (metrics.get(f"{name}_{column}", math.nan) for column in columns)
            rows.append([description, *map(_cell, numbers)])
    headers = [title, *columns.values()]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _cell(number: float) -> str:
    return format(number, ".4f") if math.isfinite(number) else "-"
