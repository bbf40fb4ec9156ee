"""Caption metrics: against pycocoevalcap, by hand, and on input that its tokenizer breaks."""

import json
import math
from pathlib import Path

import pytest

from yolor_d2.evaluation.caption.evaluator import read_captions
from yolor_d2.evaluation.caption.metrics import (
    METRICS,
    score,
    score_tokenized,
    tokenize_captions,
)

REFERENCES = {
    1: ["A man rides a brown horse.", "A cowboy is riding on a horse"],
    2: ["Two dogs play on the beach.", "dogs running along the sea"],
    3: ["A red bus drives down a street.", "the bus is on the road"],
}
CANDIDATES = {1: "A man rides a horse.", 2: "dogs on a beach", 3: "a red bus on the road"}


@pytest.mark.parametrize("name", ["human", "constant", "edge", "copy", "subset"])
def test_golden_scores_of_raw_text(shared_dir: Path, name: str) -> None:
    folder = shared_dir / "golden/captions"
    entries = json.loads((folder / f"cand_{name}.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())["sets"][name]["corpus"]
    candidates = {entry["image_id"]: entry["caption"] for entry in entries}
    scores = score(read_captions(folder / "gt.json"), candidates)
    assert scores == pytest.approx({m: expected[m] for m in METRICS}, rel=0, abs=1e-9)


@pytest.mark.parametrize("name", ["human", "constant", "edge", "copy"])
def test_golden_scores_of_tokenized_text(shared_dir: Path, name: str) -> None:
    folder = shared_dir / "golden/captions"
    words = json.loads((folder / "tokenized.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())["sets"][name]["corpus"]
    scores = score_tokenized(words["refs"], words[name])
    assert scores == pytest.approx({m: expected[m] for m in METRICS}, rel=0, abs=1e-9)


def test_scores_by_hand() -> None:
    references = {1: ["one two three four", "one two six"], 2: ["dog cat"]}
    scores = score(references, {1: "One two, three.", 2: "dog bird"})
    # Of 5, 3, 1 and 0 n-grams 4, 2, 1 and 0 are correct; the closest references are as long.
    assert scores["Bleu_1"] == pytest.approx(4 / 5)
    assert scores["Bleu_2"] == pytest.approx(math.sqrt(4 / 5 * 2 / 3))
    assert scores["Bleu_3"] == pytest.approx((4 / 5 * 2 / 3) ** (1 / 3))
    assert scores["Bleu_4"] < 0.1
    # Best precision 3/3 and recall 3/4, of different references; then 1/2 each.
    f_of_first = (1 + 1.2**2) * 0.75 / (0.75 + 1.2**2)
    assert scores["ROUGE_L"] == pytest.approx((f_of_first + 0.5) / 2)


def test_only_images_with_a_candidate_count() -> None:
    some = {i: CANDIDATES[i] for i in (1, 3)}
    assert score(REFERENCES, some) == score({i: REFERENCES[i] for i in some}, some)
    assert score(REFERENCES | {9: []}, CANDIDATES) == score(REFERENCES, CANDIDATES)


def test_the_order_of_images_does_not_matter() -> None:
    backwards = dict(reversed(CANDIDATES.items()))
    assert score(REFERENCES, backwards) == score(REFERENCES, CANDIDATES)
    other = score(dict(reversed(REFERENCES.items())), CANDIDATES)
    assert other == pytest.approx(score(REFERENCES, CANDIDATES), abs=1e-12)


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\t"])
def test_line_separators_are_spaces(separator: str) -> None:
    candidates = CANDIDATES | {1: f"A man{separator}rides a horse.{separator}"}
    references = REFERENCES | {2: [t.replace(" ", separator) for t in REFERENCES[2]]}
    assert score(references, candidates) == score(REFERENCES, CANDIDATES)


@pytest.mark.parametrize("empty", ["", ".", " \n", "🐶"])
def test_an_empty_caption_scores_zero_but_counts(empty: str) -> None:
    alone = score(REFERENCES, {1: empty})
    assert alone == pytest.approx(dict.fromkeys(METRICS, 0.0), abs=1e-12)
    scores = score(REFERENCES, CANDIDATES | {1: empty})
    assert 0 < scores["CIDEr"] < score(REFERENCES, CANDIDATES)["CIDEr"]
    assert all(map(math.isfinite, scores.values()))


def test_captions_without_words() -> None:
    scores = score({1: ["."], 2: [""]}, {1: "", 2: "a"})
    assert scores["CIDEr"] == 0
    assert scores["Bleu_1"] < 1e-9


def test_cider_of_one_image_is_zero() -> None:
    scores = score(REFERENCES, {1: REFERENCES[1][0]})
    assert scores["Bleu_4"] == pytest.approx(1)
    assert scores["CIDEr"] == 0


@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        (REFERENCES, {}, "no captions to score"),
        (REFERENCES, CANDIDATES | {77: "a"}, "image 77 has a caption but no reference"),
        (REFERENCES | {3: []}, CANDIDATES, "image 3 has a caption but no reference"),
        (REFERENCES, {"1": "a"}, "image '1' has a caption but no reference"),
        (REFERENCES, {1: None}, "image 1: the caption None is not a string"),
        (REFERENCES, {2: ["a", "b"]}, r"image 2: the caption \['a', 'b'\] is not a string"),
        (
            REFERENCES | {3: "a bus"},
            CANDIDATES,
            "image 3: the references are not a list of strings",
        ),
        (REFERENCES | {3: [None]}, CANDIDATES, "image 3: the references are not a list of strings"),
    ],
)
@pytest.mark.parametrize("scores", [score, score_tokenized])
def test_invalid_captions_are_refused(scores, references, candidates, message) -> None:
    with pytest.raises(ValueError, match=message):
        scores(references, candidates)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    score(REFERENCES, CANDIDATES)
    assert capfd.readouterr() == ("", "")


def test_references_and_candidates_are_tokenized() -> None:
    references, words = tokenize_captions(REFERENCES, {2: "Dogs, on a beach!"})
    assert references == {2: ["two dogs play on the beach", "dogs running along the sea"]}
    assert words == {2: "dogs on a beach"}
