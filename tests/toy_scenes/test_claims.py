"""Claims of captions: true captions are accepted, and false words are found."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from yolor_d2.toy_scenes.captions import write_captions
from yolor_d2.toy_scenes.claims import (
    KINDS,
    NOTHING,
    CaptionClaims,
    Claim,
    check_caption,
    read_caption_checkers,
)
from yolor_d2.toy_scenes.layout import SceneOptions, render_scene
from yolor_d2.toy_scenes.phrases import (
    NOUNS,
    NUMBERS,
    PLACES,
    RELATIONS,
    TRUE_ELSEWHERE,
    WHEN,
    WHERE,
    plural,
)
from yolor_d2.toy_scenes.truth import (
    COLORS,
    THING_CLASSES,
    Scene,
    SceneObject,
    SceneRegion,
)

Pair = tuple[str, Scene]

# Small images, which take 13 ms each.
OPTIONS = SceneOptions(width=96, height=72, max_size=60)
IMAGES = 200


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [
        render_scene(np.random.default_rng([11, number]), OPTIONS).scene for number in range(IMAGES)
    ]


@pytest.fixture(scope="module")
def true(scenes: list[Scene]) -> list[Pair]:
    """Captions of the generator, each with its scene."""
    return [
        (caption, scene)
        for number, scene in enumerate(scenes)
        for caption in write_captions(scene, np.random.default_rng([12, number]), count=12)
    ]


def thing(name: str, color: str, x: int, y: int, **more: object) -> SceneObject:
    """Make an object of 20 x 20 pixels around a point, in an image of 200 x 100."""
    values = {"id": x, "thing": name, "color": color, "box": (x - 10, y - 10, 20, 20)}
    values |= {"center": (float(x), float(y)), "area": 400, "visible_share": 1.0, "size": None}
    return SceneObject(**(values | {"place": None, "is_crowd": False} | more))


def beach(*objects: SceneObject) -> Scene:
    regions = [
        SceneRegion(stuff, "middle", (0, top, 200, 30), (100.0, top + 15.0), 6000)
        for stuff, top in (("sky", 0), ("water", 30), ("sand", 60))
    ]
    return Scene(200, 100, "beach", "clear", tuple(regions), objects)


BEACH = beach(
    thing("ball", "red", 30, 70, place="sand"),
    thing("ball", "red", 50, 75, place="sand"),
    thing("star", "blue", 90, 45),
    thing("box", "black", 170, 20, box=(140, 0, 60, 40), place="sky", size="large"),
)


def wrong(caption: str, scene: Scene = BEACH) -> list[tuple[str, str, str]]:
    """Return kind, words and truth of the false claims of a grammatical caption."""
    result = check_caption(caption, scene)
    assert not result.leftover
    return [(c.kind, c.words, c.truth) for c in result.claims if not c.is_true]


def test_captions_of_the_generator_are_truthful(true: list[Pair]) -> None:
    kinds = Counter()
    for caption, scene in true:
        result = check_caption(caption, scene)
        assert result.is_truthful, (caption, result)
        assert all(claim.words == claim.truth for claim in result.claims)
        kinds.update(claim.kind for claim in result.claims)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 50


def test_case_and_punctuation_are_ignored(true: list[Pair]) -> None:
    for caption, scene in true[::7]:
        words = " ".join(re.findall(r"\w+", caption.lower()))
        assert check_caption(words, scene) == check_caption(caption, scene)
        assert check_caption(caption.replace(",", " ,").replace(".", " ."), scene).is_truthful


def test_captions_of_other_scenes_are_rarely_truthful(true: list[Pair]) -> None:
    results = [
        check_caption(caption, scene)
        for (caption, _), (_, scene) in zip(true, true[24:], strict=False)
    ]
    assert 0 < np.mean([result.is_truthful for result in results]) < 0.03
    assert not any(result.leftover for result in results)


# None of these begins with a vowel, so the article stays the same.
PLAIN_COLORS = tuple(color for color in COLORS if color != "orange")
PLURALS = tuple(map(plural, THING_CLASSES))
NAME = rf"({'|'.join(PLAIN_COLORS)}) ({'|'.join(PLURALS + THING_CLASSES)})"


def exchange(match: re.Match[str], words: str, group: int = 0) -> str:
    """Replace a group of the match by other words."""
    return match.string[: match.start(group)] + words + match.string[match.end(group) :]


def matches(pattern: str, true: list[Pair]) -> Iterator[tuple[re.Match[str], Scene]]:
    for caption, scene in true:
        for match in re.finditer(rf"\b(?:{pattern})\b", caption.lower()):
            yield match, scene


def wrong_kinds(caption: str, scene: Scene) -> set[str]:
    return {kind for kind, _, _ in wrong(caption, scene)}


def test_wrong_colors_are_found(true: list[Pair]) -> None:
    tried = 0
    for match, scene in matches(NAME, true[::2]):
        for color in set(PLAIN_COLORS) - {item.color for item in scene.objects}:
            assert "color" in wrong_kinds(exchange(match, color, 1), scene)
            tried += 1
    assert tried > 1000


def test_wrong_classes_are_found(true: list[Pair]) -> None:
    tried = 0
    for match, scene in matches(NAME, true[::2]):
        for name in set(THING_CLASSES) - {item.thing for item in scene.objects}:
            words = name if match[2] in THING_CLASSES else plural(name)
            assert "class" in wrong_kinds(exchange(match, words, 2), scene)
            tried += 1
    assert tried > 1000


def test_wrong_numbers_are_found(true: list[Pair]) -> None:
    tried = 0
    for match, scene in matches("|".join(NUMBERS[2:]), true):
        for number in {"two", "three", "four", "seven"} - {match[0]}:
            assert "number" in wrong_kinds(exchange(match, number), scene)
            tried += 1
    assert tried > 1000


def test_opposites_are_found(true: list[Pair]) -> None:
    opposites = {"left": "right", "top": "bottom", "above": "below", "larger": "smaller"}
    opposites |= {second: first for first, second in opposites.items()}
    tried = Counter()
    for match, scene in matches(rf"(?:{'|'.join(opposites)})(?! mountains)", true):
        kinds = wrong_kinds(exchange(match, opposites[match[0]]), scene)
        assert kinds in ({"side"}, {"relation"})
        tried[match[0]] += 1
    assert min(tried[word] for word in opposites) > 5


def test_relations_agree_with_object_centers(true: list[Pair]) -> None:
    """Replaced relations are true if all pairs of centers agree."""
    words = "|".join(words for phrases in RELATIONS.values() for words in phrases)
    names = rf"({'|'.join(COLORS)}) ({'|'.join(PLURALS + THING_CLASSES)})"
    found = Counter()
    for match, scene in matches(rf"{names} (?:is|are) ({words}) .*?{names}", true):
        first, second = (
            [item for item in scene.objects if item.color == color and item.thing in noun]
            for color, noun in (match.group(1, 2), match.group(4, 5))
        )
        xs, ys = ([[item.center[k] for item in items] for items in (first, second)] for k in (0, 1))
        for word, is_true in {
            "left of": max(xs[0]) < min(xs[1]),
            "on the right side of": min(xs[0]) > max(xs[1]),
            "higher up than": max(ys[0]) < min(ys[1]),
            "below": min(ys[0]) > max(ys[1]),
        }.items():
            assert wrong_kinds(exchange(match, word, 3), scene) == (
                set() if is_true else {"relation"}
            )
            found[word, is_true] += 1
    assert min(found.values()) > 10
    assert len(found) == 8


def test_wrong_weather_and_places_are_found(true: list[Pair]) -> None:
    tried = Counter()
    for kind, table in (("weather", WHEN), ("place", PLACES)):
        phrases = {words: meaning for meaning, options in table.items() for words in options}
        for match, scene in matches("|".join(sorted(phrases, key=len, reverse=True)), true):
            present = {scene.weather, *(region.stuff for region in scene.regions)}
            # "a room with a rug on the floor" is a setting
            for words in [] if "room with" in match.string else set(phrases):
                if phrases[words] not in present:
                    assert wrong_kinds(exchange(match, words), scene) == {kind}
                    tried[kind] += 1
    assert min(tried.values()) > 1000


def test_wrong_settings_are_found(true: list[Pair]) -> None:
    indoors = ("room", "lounge")
    phrases = {words: setting for setting, options in WHERE.items() for words in options}
    tried = 0
    for match, scene in matches(rf"(?<!meadow )(?:{'|'.join(phrases)})", true):
        for words, setting in phrases.items():
            if (setting in indoors) != (scene.setting in indoors):
                assert wrong_kinds(exchange(match, words), scene) == {"setting"}
                tried += 1
    assert tried > 1000


def test_phrases_true_elsewhere_are_in_the_tables() -> None:
    known = {words for table in (NOUNS, WHERE) for options in table.values() for words in options}
    for setting, phrases in TRUE_ELSEWHERE.items():
        assert set(phrases) <= known
        assert not set(phrases) & {*NOUNS[setting], *WHERE[setting]}


@pytest.mark.parametrize(
    "caption",
    [
        "Two red balls and a blue star.",
        "a small blue star and two red balls at the beach",
        "a blue star is to the left of a large black box by the water under a blue sky",
        "two red balls are lower than a blue star",
        "a blue star is on the left of the picture",  # by less than the generator's margin
        "a blue star rests on the water",  # below its lower border, though its place is None
        "a black box hovers in the sky while two red balls lie on the sand",
        "in the air there is a black box",
        "two of the four things are red",
        "two balls",
        "four objects on a sunny day, a blue star",
    ],
)
def test_true_captions(caption: str) -> None:
    assert wrong(caption) == []
    assert check_caption(caption, BEACH).is_truthful


@pytest.mark.parametrize(
    ("caption", "claims"),
    [
        ("three red balls", "number three two"),
        ("a red ball", "number one two"),
        ("many red balls", "number many two"),
        ("two green balls", "color green red"),
        ("two red hearts", "class heart ball"),
        ("a large blue star", "size large small"),
        ("two red balls are right of a blue star", "relation right left"),
        ("a blue star is larger than two red balls", "relation larger"),
        ("two red balls are near the top", "side near the top on the left"),
        ("a blue star lies on the grass", "place grass"),
        ("on the sand there is a black box", "place sand sky"),
        ("two red balls in the desert", "setting in the desert beach"),
        ("two red balls in the evening", "weather sunset clear"),
        ("three of the four things are red", "number three two"),
        ("two of the five things are red", "number five four"),
        ("two of the four things are green", "color green red"),
        ("three boxes", "number three one"),
        ("two moons", "class moon ball"),
        ("five things, a blue star", "number five four"),
        ("there is nothing at the beach", "number no four"),
        (
            "nothing but sky and water",
            "number no four; setting sky and water sand and sky and water",
        ),
        ("two red balls and two red balls", "number two one; color red blue; class ball star"),
    ],
)
def test_false_captions(caption: str, claims: str) -> None:
    assert "; ".join(" ".join(claim).strip() for claim in wrong(caption)) == claims
    assert not check_caption(caption, BEACH).is_truthful


@pytest.mark.parametrize(
    ("caption", "leftover"),
    [
        ("dogs", "dogs"),
        ("two red balls a blue star", "a blue star"),
        ("two red balls and", "and"),
        ("two red ball", "two red ball"),
        ("two red balls and an blue star", "and an blue star"),
        ("two red balls is left of a blue star", "is left of a blue star"),
        ("two red balls lie on the lawn", "lie on the lawn"),
        ("two red balls at the beach at the beach", "at the beach"),
        ("two red balls and a blue star and a black box", "and a black box"),
        ("there two red balls", "there two red balls"),
    ],
)
def test_words_outside_of_the_grammar_are_left_over(caption: str, leftover: str) -> None:
    result = check_caption(caption, BEACH)
    assert result.leftover == leftover
    assert all(claim.is_true for claim in result.claims)
    assert not result.is_truthful


def test_truthful_captions_have_two_claims() -> None:
    claim = Claim("class", "ball", True, "ball")
    assert not check_caption("", BEACH).is_truthful
    assert not CaptionClaims(claims=(claim,), leftover="").is_truthful
    assert CaptionClaims(claims=(claim, claim), leftover="").is_truthful


def test_a_crowd_is_not_counted() -> None:
    scene = beach(thing("ball", "red", 30, 70, is_crowd=True), thing("star", "blue", 90, 45))
    assert wrong("a crowd of tiny red balls is to the left of a blue star", scene) == []
    assert wrong("lots of red balls and a blue star", scene) == []
    assert wrong("two red balls", scene) == [("number", "two", "many")]
    assert wrong("two things, a blue star", scene) == [("number", "two", "many")]
    assert wrong("a blue star is larger than many red balls", scene) == [("relation", "larger", "")]


def test_claims_about_missing_objects() -> None:
    assert wrong("nothing but water, sand and sky", beach()) == []
    assert wrong("a red ball is left of a blue star", beach()) == [
        *[("number", "one", NOTHING), ("color", "red", NOTHING), ("class", "ball", NOTHING)],
        *[("number", "one", NOTHING), ("color", "blue", NOTHING), ("class", "star", NOTHING)],
        ("relation", "left", NOTHING),
    ]


def test_checkers_of_a_scenes_file(tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    records = [{"image_id": 7, **BEACH.to_json()}, {"image_id": 9, **beach().to_json()}]
    path.write_text(json.dumps({"scenes": records}))
    checkers = read_caption_checkers(path)
    assert list(checkers) == [7, 9]
    assert checkers[7]("two red balls") == check_caption("two red balls", BEACH)
    assert not checkers[9]("two red balls").is_truthful
