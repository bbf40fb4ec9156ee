"""Baseline captions and their table."""

import math
import random
import time

import pytest

from yolor_d2.evaluation.caption.baselines import (
    baseline_captions,
    caption_table,
    constant_caption,
    other_captions,
)
from yolor_d2.evaluation.caption.metrics import METRICS, score_tokenized


def synthetic_references(images: int, *, words: int = 12, seed: int = 0) -> dict[int, list[str]]:
    """Captions of 3 to 11 words of a small vocabulary, so that n-grams repeat."""
    rng = random.Random(seed)
    vocabulary = [f"w{k}" for k in range(words)]

    def caption() -> str:
        return " ".join(rng.choices(vocabulary, k=rng.randint(3, 11)))

    return {i: [caption() for _ in range(rng.randint(1, 6))] for i in range(images)}


@pytest.mark.parametrize("seed", range(3))
def test_the_constant_caption_has_the_best_bleu_of_all(seed: int) -> None:
    references = synthetic_references(12, words=4, seed=seed)

    def bleu(caption: str) -> float:
        return score_tokenized(references, dict.fromkeys(references, caption))["Bleu_4"]

    captions = [text for texts in references.values() for text in texts]
    assert bleu(constant_caption(references)) == pytest.approx(max(map(bleu, captions)), rel=1e-12)


def test_the_constant_caption_is_the_first_of_ties() -> None:
    assert constant_caption({2: ["c d e f"], 1: ["a b c d"]}) == "c d e f"
    assert constant_caption({1: ["a"], 2: ["", "b"]}) == "a"
    assert constant_caption({1: [""]}) == ""


def test_speed_of_the_constant_caption() -> None:
    references = synthetic_references(5000, words=2000)
    start = time.process_time()
    constant_caption(references)
    assert time.process_time() - start < 4  # 1 s on an idle machine


def test_other_is_the_first_reference_of_the_next_image() -> None:
    references = {7: ["a", "x"], 12: ["b"], 3: ["c", "y"]}
    assert other_captions(references) == {3: "a", 7: "b", 12: "c"}
    assert other_captions({3: ["c"]}) == {}


def test_available_baselines() -> None:
    references = {1: ["a b"], 2: ["c"]}
    captions = baseline_captions(references, {2: "d", 5: "e"})
    assert captions == {
        "sixth": {2: "d"},
        "constant": {1: "a b", 2: "a b"},
        "other": {1: "c", 2: "a b"},
    }
    assert baseline_captions({1: ["a b"]}, {}) == {"constant": {1: "a b"}}


def test_caption_table() -> None:
    metrics = dict.fromkeys(METRICS, 0.5) | {"METEOR": math.nan}
    metrics |= {f"other_{name}": 0.25 for name in METRICS}
    lines = caption_table(metrics).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        "caption",
        *METRICS,
        "METEOR",
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert rows == [
        ["model", *["0.5000"] * 6, "-"],
        ["a caption of another image", *["0.2500"] * 6, "-"],
    ]
