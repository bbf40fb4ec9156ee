"""Baselines that caption metrics are compared with.

A score alone means little: a generic caption can reach a high BLEU on every image. Metrics are
therefore printed with those of captions that ignore the image, and of true captions. All captions
here are tokenized, tokens separated by spaces.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import precook
from tabulate import tabulate

from ..gathering import image_id_key
from .metrics import METRICS

BASELINES = {
    "sixth": "a sixth true caption",
    "constant": "one constant caption",
    "other": "a caption of another image",
}

_CLAIM_PREFIX = "truthful_"


def baseline_captions(
    references: Mapping[int, Sequence[str]], sixth: Mapping[int, str]
) -> dict[str, dict[int, str]]:
    """Return the captions of all available BASELINES.

    Args:
        references: reference captions of the scored images.
        sixth: one more true caption of some or all images.
    """
    captions = {
        "sixth": {i: sixth[i] for i in references if i in sixth},
        "constant": dict.fromkeys(references, constant_caption(references)),
        "other": other_captions(references),
    }
    return {name: texts for name, texts in captions.items() if texts}


def constant_caption(references: Mapping[int, Sequence[str]]) -> str:
    """Return the reference with the best BLEU-4 as the caption of all images; the first of ties.

    The k-th occurrence of an n-gram is correct in images with a reference that has it k times.
    These images are counted once for all n-grams, so that 25,000 candidates take a second.
    """
    cooked = {text: precook(text) for texts in references.values() for text in texts}
    repeated = {
        text: [(n, k) for n, count in counts.items() if count > 1 for k in range(2, count + 1)]
        for text, (_, counts) in cooked.items()
    }
    images_with: Counter[Any] = Counter()  # by n-gram, or by (n-gram, minimum count)
    for texts in references.values():
        images_with.update(set().union(*(cooked[text][1] for text in texts)))
        images_with.update(set().union(*(repeated[text] for text in texts)))
    closest = _closest_lengths(references, {length for length, _ in cooked.values()})

    def bleu(text: str) -> float:
        length, counts = cooked[text]
        correct = [0] * 4
        for ngram in counts:
            correct[len(ngram) - 1] += images_with[ngram]
        for ngram, k in repeated[text]:
            correct[len(ngram) - 1] += images_with[ngram, k]
        total = [len(references) * max(length - n, 0) for n in range(4)]
        # pycocoevalcap's epsilons, which matter for captions of less than four words.
        precisions = ((c + 1e-15) / (t + 1e-9) for c, t in zip(correct, total, strict=True))
        precision = math.prod(precisions)
        words = len(references) * length
        return precision**0.25 * math.exp(min(0, 1 - closest[length] / words)) if words else 0.0

    return max(cooked, key=bleu)


def _closest_lengths(references: Mapping[int, Sequence[str]], lengths: set[int]) -> dict[int, int]:
    """Return, for each length, the sum of the closest reference lengths of all images."""
    most = max(map(len, references.values()))
    of_images = np.full((len(references), most), np.iinfo(np.int32).max)  # (images, references)
    for row, texts in zip(of_images, references.values(), strict=True):
        row[: len(texts)] = [len(text.split()) for text in texts]
    of_images.sort(axis=1)  # the shorter of two equally close lengths counts
    rows = np.arange(len(references))
    return {
        length: int(of_images[rows, np.abs(of_images - length).argmin(axis=1)].sum())
        for length in lengths
    }


def other_captions(references: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Return, for each image, the first reference of the next one by id; {} for a single image."""
    ids = sorted(references, key=image_id_key)
    return {i: references[j][0] for i, j in zip(ids, ids[1:] + ids[:1], strict=True) if i != j}


def caption_table(metrics: Mapping[str, float]) -> str:
    """Return Markdown with the metrics of the model and, below, those of the BASELINES.

    The shares of true claims have a second table.

    Args:
        metrics: METRICS and other metrics of the model, and those of the baselines.
    """
    columns = [name for name in metrics if name.partition("_")[0] not in BASELINES]
    claims = [name for name in columns if name.startswith(_CLAIM_PREFIX)]
    rest = [name for name in columns if name not in claims]
    tables = [_table("caption", {name: name for name in rest}, metrics)]
    if claims:
        headers = {name: name.removeprefix(_CLAIM_PREFIX) for name in claims}
        tables.append(_table("true claims", headers, metrics))
    return "\n\n".join(tables)


def _table(title: str, columns: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Return a table of some metrics, given with their column headers."""
    rows = [["model", *(_cell(metrics[column]) for column in columns)]]
    for name, description in BASELINES.items():
        if f"{name}_{METRICS[0]}" in metrics:
            numbers = (metrics.get(f"{name}_{column}", math.nan) for column in columns)
            rows.append([description, *map(_cell, numbers)])
    headers = [title, *columns.values()]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _cell(number: float) -> str:
    return format(number, ".4f") if math.isfinite(number) else "-"
