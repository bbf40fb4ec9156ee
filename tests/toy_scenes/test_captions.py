"""Toy captions are true, according to a parser that shares no code with the grammar."""

import json
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from yolor_d2.toy_scenes.captions import describe, write_captions
from yolor_d2.toy_scenes.layout import SceneOptions, render_scene
from yolor_d2.toy_scenes.truth import COLORS, THING_CLASSES, Scene

OPTIONS = SceneOptions(width=160, height=120, max_size=100)
IMAGES = 80

NUMBERS = dict(
    zip(
        ("a", "an", "two", "three", "four", "five", "six", "seven", "eight"),
        (1, 1, 2, 3, 4, 5, 6, 7, 8),
        strict=True,
    )
)
PLURALS = {
    f"{thing}es" if thing in ("box", "cross") else f"{thing}s": thing for thing in THING_CLASSES
}
SINGULARS = {thing: thing for thing in THING_CLASSES}
NOUN_PHRASE = (
    rf"(?:(?P<many{{0}}>many|lots of|a crowd of|a group of)|(?P<number{{0}}>{'|'.join(NUMBERS)}))"
    rf" (?:(?P<size{{0}}>small|tiny|large) )?(?P<color{{0}}>{'|'.join(COLORS)})"
    rf" (?P<noun{{0}}>{'|'.join([*PLURALS, *SINGULARS])})\b"
)
ANY_NOUN_PHRASE = re.compile(rf"\b{NOUN_PHRASE.format(1)}")
LEFT, RIGHT = (
    ("to the left of", "left of", "on the left side of"),
    ("to the right of", "right of", "on the right side of"),
)
ABOVE, BELOW = ("above", "higher up than"), ("below", "lower than")
LARGER, SMALLER = ("larger than", "bigger than"), ("smaller than",)
RELATIONS = (*LEFT, *RIGHT, *ABOVE, *BELOW, *LARGER, *SMALLER)
RELATION = re.compile(
    rf"{NOUN_PHRASE.format(1)} (?:is|are) (?P<word>{'|'.join(RELATIONS)}) {NOUN_PHRASE.format(2)}"
)
SIDES = "on the left|on the right|near the top|near the bottom|in the middle"
SIDE_AFTER = re.compile(rf"{NOUN_PHRASE.format(1)}(?: is| are)? (?P<side>{SIDES})(?! side)\b")
SIDE_BEFORE = re.compile(rf"^(?P<side>{SIDES}) (?:is|are) {NOUN_PHRASE.format(1)}")
PLACE = re.compile(
    rf"{NOUN_PHRASE.format(1)} (?:float|hover|lie|rest|sit)s? (?:up )?(?:in|on|in front of) the"
    r" (?:green |white |wooden )?(?P<stuff>\w+)"
)
STUFF_OF = {"air": "sky", "rug": "carpet", "mountains": "mountain"}
OF_ALL = re.compile(
    r"^(?P<some>\w+) of the (?P<all>\w+) (?:shapes|objects|things) are (?P<color>\w+)"
)
TOTAL = re.compile(r"^(?P<all>\w+) (?:shapes|objects|things)\b")
CLASS_COUNT = re.compile(rf"^(?P<some>{'|'.join(NUMBERS)}) (?P<noun>{'|'.join(PLURALS)})\b")


@pytest.fixture(scope="module")
def scenes() -> list[dict[str, Any]]:
    """Scenes as in the JSON file, each with its five "captions"."""
    records = []
    for number in range(IMAGES):
        rng = np.random.default_rng([5, number])
        scene = render_scene(rng, OPTIONS).scene
        record = json.loads(json.dumps(scene.to_json()))
        records.append({**record, "captions": write_captions(scene, rng)})
    return records


def _described_objects(
    match: re.Match[str], which: int, scene: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the objects of a noun phrase, after checking their number, size and kind."""
    parts = {key: match[f"{key}{which}"] for key in ("many", "number", "size", "color", "noun")}
    single = parts["number"] in ("a", "an")
    thing = (SINGULARS if single else PLURALS)[parts["noun"]]
    objects = [
        item
        for item in scene["objects"]
        if (item["thing"], item["color"]) == (thing, parts["color"])
    ]
    assert all(item["is_crowd"] for item in objects) == bool(parts["many"])
    assert len(objects) == (1 if parts["many"] else NUMBERS[parts["number"]])
    extents = [max(item["box"][2:]) / scene["height"] for item in objects]
    if parts["size"] == "large":
        assert min(extents) > 0.3
    elif parts["size"] and not parts["many"]:
        assert max(extents) < 0.16
    return objects


def _check_relation(match: re.Match[str], scene: dict[str, Any]) -> None:
    first, second = _described_objects(match, 1, scene), _described_objects(match, 2, scene)
    word = match["word"]
    if word in (*RIGHT, *BELOW, *SMALLER):
        first, second = second, first
    if word in LEFT + RIGHT:
        gap = min(b["center"][0] for b in second) - max(a["center"][0] for a in first)
        assert gap > 0.12 * scene["width"]
    elif word in ABOVE + BELOW:
        gap = min(b["center"][1] for b in second) - max(a["center"][1] for a in first)
        assert gap > 0.12 * scene["height"]
    else:
        assert min(max(a["box"][2:]) for a in first) > 1.5 * max(max(b["box"][2:]) for b in second)


def _check_side(match: re.Match[str], scene: dict[str, Any]) -> None:
    for item in _described_objects(match, 1, scene):
        x, y = item["center"][0] / scene["width"], item["center"][1] / scene["height"]
        assert {
            "on the left": x < 0.4,
            "on the right": x > 0.6,
            "near the top": y < 0.4,
            "near the bottom": y > 0.6,
            "in the middle": 0.4 < x < 0.6 and 0.4 < y < 0.6,
        }[match["side"]]


def _check_counts(text: str, scene: dict[str, Any]) -> str | None:
    """Check a sentence that begins with a number; return the kind of the sentence."""
    objects = scene["objects"]
    if match := OF_ALL.match(text):
        assert NUMBERS[match["all"]] == len(objects)
        assert NUMBERS[match["some"]] == sum(item["color"] == match["color"] for item in objects)
        return "part"
    if (match := TOTAL.match(text)) and match["all"] in NUMBERS:
        assert NUMBERS[match["all"]] == len(objects)
        return "total"
    if match := CLASS_COUNT.match(text):
        thing = PLURALS[match["noun"]]
        assert NUMBERS[match["some"]] == sum(item["thing"] == thing for item in objects)
        return "class"
    return None


def _check_caption(caption: str, scene: dict[str, Any]) -> Counter[str]:
    """Check all claims about objects; return the number of claims of each kind."""
    assert re.fullmatch(r"[A-Z][a-z ,]+[a-z]\.", caption)
    assert "  " not in caption
    text = caption[0].lower() + caption[1:-1]
    for article, following in re.findall(r"\b(an?) (\w)", text):
        assert (article == "an") == (following in "aeiou"), caption
    counts = Counter()
    for match in ANY_NOUN_PHRASE.finditer(text):
        _described_objects(match, 1, scene)
        counts["name"] += 1
    if match := RELATION.search(text):
        _check_relation(match, scene)
        counts[match["word"]] += 1
    elif sides := [*SIDE_AFTER.finditer(text), *SIDE_BEFORE.finditer(text)]:
        for match in sides:
            _check_side(match, scene)
            counts[match["side"]] += 1
    for match in PLACE.finditer(text):
        stuff = STUFF_OF.get(match["stuff"], match["stuff"])
        assert all(item["place"] == stuff for item in _described_objects(match, 1, scene))
        counts["place"] += 1
    if count := _check_counts(text, scene):
        counts[count] += 1
    return counts


def test_captions_are_true(scenes: list[dict[str, Any]]) -> None:
    counts = Counter()
    for scene in scenes:
        rng = np.random.default_rng(0)
        more = [describe(Scene.from_json(scene), rng) for _ in range(15)]
        for caption in scene["captions"] + more:
            counts += _check_caption(caption, scene)
    for kind in (*RELATIONS, *SIDES.split("|"), "place", "part", "total", "class"):
        assert counts[kind] > 0, f"no caption has {kind!r}"
    assert counts["name"] > 1000


def test_the_parser_rejects_a_mirrored_scene(scenes: list[dict[str, Any]]) -> None:
    rejected = 0
    for scene in scenes:
        mirrored = json.loads(json.dumps(scene))
        for item in mirrored["objects"]:
            item["center"][0] = OPTIONS.width - item["center"][0]
        for caption in scene["captions"]:
            try:
                _check_caption(caption, mirrored)
            except AssertionError:
                rejected += 1
                assert "left" in caption or "right" in caption
    assert rejected > 20


def test_captions_of_empty_scenes(scenes: list[dict[str, Any]]) -> None:
    empty = [scene for scene in scenes if not scene["objects"]]
    assert empty
    for scene in empty:
        for caption in scene["captions"]:
            assert re.search(r"empty|nothing|without|no objects|only", caption.lower())
            assert not ANY_NOUN_PHRASE.search(caption.lower())


def test_no_constant_caption_scores_well(scenes: list[dict[str, Any]]) -> None:
    """BLEU-4 of the best constant caption against five references is below 0.25."""
    references = [
        [_grams(text) for text in texts] for texts in (scene["captions"] for scene in scenes)
    ]
    best = max(_bleu(candidate, references) for texts in references for candidate in texts[:2])
    assert 0.02 < best < 0.25


def _grams(caption: str) -> list[Counter[tuple[str, ...]]]:
    words = re.findall("[a-z]+", caption.lower())
    return [
        Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
        for size in (1, 2, 3, 4)
    ]


def _bleu(
    candidate: list[Counter[tuple[str, ...]]],
    references: list[list[list[Counter[tuple[str, ...]]]]],
) -> float:
    """Corpus BLEU-4 without the brevity penalty, which could only lower it."""
    precisions = []
    for size in range(4):
        hits = sum(
            min(count, max(text[size][gram] for text in texts))
            for texts in references
            for gram, count in candidate[size].items()
        )
        precisions.append(hits / max(len(references) * candidate[size].total(), 1))
    return float(np.prod(precisions)) ** 0.25
