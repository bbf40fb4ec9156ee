"""What a model is right and wrong about."""

import pytest

from yolor_d2.evaluation.mistakes.mistakes import caption_scores, explain_false, judge_boxes

NAMES = ["ball", "box", "star"]


def item(category: int, x: float, side: float = 10, **more: object) -> dict:
    return {"category_id": category, "bbox": [x, 0, side, side], **more}


def test_right_false_and_missed() -> None:
    objects = [item(0, 0), item(1, 50), item(2, 100)]
    results = [item(0, 1, score=0.9), item(2, 50, score=0.8), item(0, 200, score=0.7)]
    verdict = judge_boxes(objects, [*results, item(2, 100, score=0.1)])
    assert [match.result for match in verdict.right] == [results[0]]
    assert [match.result for match in verdict.false] == results[1:]
    assert [match.annotation for match in verdict.missed] == objects[1:]
    assert verdict.quality == pytest.approx(9 / 11 / (1 + 4 / 2))
    reasons = [explain_false(match, objects, NAMES) for match in verdict.false]
    assert reasons == ["it is box", "nothing is there"]


def test_the_right_class_goes_before_the_larger_overlap() -> None:
    objects = [item(0, 0)]
    results = [item(1, 0, score=0.3), item(0, 2, score=0.9)]
    verdict = judge_boxes(objects, results)
    assert verdict.right[0].result == results[1]
    assert verdict.missed == []
    reason = explain_false(verdict.false[0], objects, NAMES)
    assert reason == "ball has been found already"


def test_what_lies_on_crowds_is_not_judged() -> None:
    crowd = item(0, 0, side=100, iscrowd=1)
    verdict = judge_boxes([crowd], [item(0, 5, score=0.9)])
    assert verdict == ([], [], [])
    assert verdict.quality is None


def test_a_box_that_misses_its_object() -> None:
    objects = [item(2, 0)]
    verdict = judge_boxes(objects, [item(2, 6, score=0.9)])
    reason = explain_false(verdict.false[0], objects, NAMES)
    assert reason == "star is near by, with an overlap of 0.25"
    assert verdict.quality == 0


def test_captions_are_scored_one_by_one() -> None:
    references = {1: ["a red ball"], 2: ["two blue boxes"], 3: ["a star"], 4: []}
    scores = caption_scores(references, {1: "A red ball.", 2: "a green tree", 4: "x", 5: "y"})
    assert scores.keys() == {1, 2}
    assert scores[1] > 3
    assert scores[2] < 0.5
    assert caption_scores(references, {}) == {}
