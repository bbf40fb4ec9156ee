"""Correct, false and missed predictions of an image."""

import pytest

from yolor_d2.evaluation.mistakes.comparison import caption_scores, compare_boxes, explain_false

NAMES = ["ball", "box", "star"]


def item(category: int, x: float, side: float = 10, **more: object) -> dict:
    return {"category_id": category, "bbox": [x, 0, side, side], **more}


def test_correct_false_and_missed() -> None:
    objects = [item(0, 0), item(1, 50), item(2, 100)]
    results = [item(0, 1, score=0.9), item(2, 50, score=0.8), item(0, 200, score=0.7)]
    comparison = compare_boxes(objects, [*results, item(2, 100, score=0.1)])
    assert [match.result for match in comparison.correct] == [results[0]]
    assert [match.result for match in comparison.false] == results[1:]
    assert [match.annotation for match in comparison.missed] == objects[1:]
    assert comparison.quality == pytest.approx(9 / 11 / (1 + 4 / 2))
    reasons = [explain_false(match, objects, NAMES) for match in comparison.false]
    assert reasons == ["true class: box", "no object here"]


def test_the_same_class_matches_before_a_larger_overlap() -> None:
    objects = [item(0, 0)]
    results = [item(1, 0, score=0.3), item(0, 2, score=0.9)]
    comparison = compare_boxes(objects, results)
    assert comparison.correct[0].result == results[1]
    assert comparison.missed == []
    reason = explain_false(comparison.false[0], objects, NAMES)
    assert reason == "duplicate of a found ball"


def test_results_on_crowds_are_ignored() -> None:
    crowd = item(0, 0, side=100, iscrowd=1)
    comparison = compare_boxes([crowd], [item(0, 5, score=0.9)])
    assert comparison == ([], [], [])
    assert comparison.quality is None


def test_a_box_near_its_object() -> None:
    objects = [item(2, 0)]
    comparison = compare_boxes(objects, [item(2, 6, score=0.9)])
    reason = explain_false(comparison.false[0], objects, NAMES)
    assert reason == "near star, IoU 0.25"
    assert comparison.quality == 0


def test_captions_are_scored_by_image() -> None:
    references = {1: ["a red ball"], 2: ["two blue boxes"], 3: ["a star"], 4: []}
    scores = caption_scores(references, {1: "A red ball.", 2: "a green tree", 4: "x", 5: "y"})
    assert scores.keys() == {1, 2}
    assert scores[1] > 3
    assert scores[2] < 0.5
    assert caption_scores(references, {}) == {}
