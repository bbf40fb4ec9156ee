"""What a caption claims of a toy scene, and whether it is true.

A claim is true if a viewer could not deny it, even where the generator would rather have said
nothing: it speaks only of what holds with a margin, so that nobody is taught what is doubtful, but
whoever says of an object a little left of another one that it is to its left is right. Numbers,
colors and classes have no margin: "two red balls" is wrong of three, and so is "a red ball".
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from .facts import SIDES, Group, groups_of, side_of
from .grammar import Part, Sentence, parse
from .measure import LARGE, SMALL
from .phrases import MANY, NOUNS, TRUE_ELSEWHERE, WHERE, number_word
from .truth import UPRIGHT_STUFF, Scene, SceneObject

KINDS = (
    *("number", "color", "class", "size"),
    *("relation", "place", "side", "setting", "weather"),
)
NOTHING = "nothing"

# Halfway between what the generator calls small and large: about half of all objects are larger.
_HALFWAY = (LARGE * SMALL) ** 0.5
_OPPOSITES = dict(zip(("left", "above", "larger"), ("right", "below", "smaller"), strict=True))
_OPPOSITES |= {second: first for first, second in _OPPOSITES.items()}


_Said = list[tuple[str, str]]  # Kinds of claims and words.


class Claim(NamedTuple):
    """One thing that a caption says; `kind` is one of KINDS.

    `words` and `truth` are those of the scene's truth ("left" for "on the left side of"), but of
    settings as they are said. `truth` is what would have been true: "" where that is unclear,
    NOTHING where the scene has no such object at all.
    """

    kind: str
    words: str
    is_true: bool
    truth: str


class Verdict(NamedTuple):
    """The claims of a caption, and the words that are in no sentence of the grammar."""

    claims: tuple[Claim, ...]
    leftover: str

    @property
    def is_truthful(self) -> bool:
        """Whether it says something, and nothing but the truth."""
        true = [claim.is_true for claim in self.claims]
        return len(true) >= 2 and all(true) and not self.leftover


def judge(caption: str, scene: Scene) -> Verdict:
    """All claims of a caption, each true or false of the scene."""
    sentence = parse(caption)
    said = _said_of_nouns(sentence.parts)
    groups = _groups_meant(said, scene)
    claims = [*_counts(sentence, scene), *_surroundings(sentence.parts, scene)]
    for pairs, group in zip(said, groups, strict=True):
        claims += _claims_of(pairs, group, scene)
    relations = [part.meaning for part in sentence.parts if part.kind == "R"]
    claims += [_relation(word, *groups) for word in relations]
    return Verdict(claims=tuple(claims), leftover=sentence.leftover)


def read_judges(path: Path) -> dict[int, Callable[[str], Verdict]]:
    """By image, a judge of its captions; from annotations/scenes_*.json."""
    records = json.loads(path.read_bytes())["scenes"]
    return {record["image_id"]: partial(judge, scene=Scene.from_json(record)) for record in records}


def _said_of_nouns(parts: Sequence[Part]) -> list[_Said]:
    """What is said of each noun phrase by itself, and so can be held against one group."""
    said: list[_Said] = []
    before: _Said = []  # "on the left is a red ball"
    for part in parts:
        if part.noun is not None:
            number, size, color, thing = part.noun
            said.append([("number", number), ("color", color), ("class", thing), *before])
            said[-1] += [("size", size)] if size else []
            before = []
        elif part.kind in "SP":
            kind = "side" if part.kind == "S" else "place"
            (said[-1] if said else before).append((kind, part.meaning))
    return said


def _groups_meant(said: Sequence[_Said], scene: Scene) -> list[Group | None]:
    """The group that each noun phrase speaks of, each another one; None where none is left.

    It is the one of that color and class; if there is none, the one of which most is true.
    """
    groups = groups_of(scene)

    def likeness(pair: tuple[int, int]) -> tuple[int, int, bool]:
        claims = _claims_of(said[pair[0]], groups[pair[1]], scene)
        true = {claim.kind for claim in claims if claim.is_true}
        return len(true & {"color", "class"}), len(true), "color" in true

    meant: dict[int, int] = {}
    for noun, group in sorted(
        product(range(len(said)), range(len(groups))), key=likeness, reverse=True
    ):
        if noun not in meant and group not in meant.values():
            meant[noun] = group
    return [groups[meant[noun]] if noun in meant else None for noun in range(len(said))]


def _claims_of(said: _Said, group: Group | None, scene: Scene) -> list[Claim]:
    """What is said of a noun phrase, if it speaks of this group."""
    if group is None:
        return [Claim(kind, words, False, NOTHING) for kind, words in said]
    return [_TESTS[kind](words, group, scene) for kind, words in said]


def _number(words: str, group: Group, scene: Scene) -> Claim:
    return _equal("number", words, _how_many(group.members))


def _color(words: str, group: Group, scene: Scene) -> Claim:
    return _equal("color", words, group.members[0].color)


def _class(words: str, group: Group, scene: Scene) -> Claim:
    return _equal("class", words, group.members[0].thing)


def _size(words: str, group: Group, scene: Scene) -> Claim:
    extents = [max(member.box[2:]) / scene.height for member in group.members]
    if group.is_crowd or max(extents) < _HALFWAY:
        return _equal("size", words, "small")
    return _equal("size", words, "large" if min(extents) > _HALFWAY else "")


def _place(words: str, group: Group, scene: Scene) -> Claim:
    is_true = all(_stands_on(item, words, scene) for item in group.members)
    return Claim("place", words, is_true, words if is_true else group.place or "")


def _stands_on(item: SceneObject, stuff: str, scene: Scene) -> bool:
    """Where it is unclear, the ground may be named that is under the middle of its foot."""
    if item.place is not None or stuff in UPRIGHT_STUFF:
        return item.place == stuff
    across, foot = item.center[0], item.box[1] + item.box[3]
    boxes = [region.box for region in scene.regions if region.stuff == stuff]
    return any(x <= across <= x + w and y < foot <= y + h for x, y, w, h in boxes)


def _side(words: str, group: Group, scene: Scene) -> Claim:
    """Left and right are halves of the picture; what is near an end, or in the middle, a third."""
    across = [member.center[0] / scene.width for member in group.members]
    down = [member.center[1] / scene.height for member in group.members]
    holds = (
        max(across) < 1 / 2,
        min(across) > 1 / 2,
        max(down) < 1 / 3,
        min(down) > 2 / 3,
        all(1 / 3 < share < 2 / 3 for share in across + down),
    )
    is_true = holds[SIDES.index(words)]
    return Claim("side", words, is_true, words if is_true else side_of(group, scene) or "")


def _relation(word: str, first: Group | None, second: Group | None) -> Claim:
    """What must hold of each member of the one and each of the other."""
    if first is None or second is None:
        return Claim("relation", word, False, NOTHING)
    holding = (
        each
        for each in (word, _OPPOSITES[word])
        if all(_holds(each, a, b) for a in first.members for b in second.members)
    )
    return _equal("relation", word, next(holding, ""))


def _holds(word: str, first: SceneObject, second: SceneObject) -> bool:
    if word in ("right", "below", "smaller"):
        return _holds(_OPPOSITES[word], second, first)
    if word == "larger":  # Of a crowd nobody knows whether it or its shapes are meant.
        countable = not (first.is_crowd or second.is_crowd)
        return countable and max(first.box[2:]) > max(second.box[2:])
    axis = 0 if word == "left" else 1
    return first.center[axis] < second.center[axis]


def _counts(sentence: Sentence, scene: Scene) -> Iterator[Claim]:
    """Claims of the sentences that count objects, whatever they are, or say that there are none."""
    parts, kinds = sentence.parts, sentence.kinds
    if sentence.is_of_nothing:
        yield _equal("number", number_word(0), _how_many(scene.objects))
    elif kinds.startswith("QoQ"):
        yield _equal("number", parts[2].meaning, _how_many(scene.objects))
        colors = [(item.color, item) for item in scene.objects]
        yield from _share("color", parts[0].meaning, parts[5].meaning, colors)
    elif kinds.startswith("QO"):
        yield _equal("number", parts[0].meaning, _how_many(scene.objects))
    elif kinds.startswith("QK"):
        classes = [(item.thing, item) for item in scene.objects]
        yield from _share("class", parts[0].meaning, parts[1].meaning, classes)


def _share(
    kind: str, number: str, words: str, objects: Sequence[tuple[str, SceneObject]]
) -> Iterator[Claim]:
    """So many are of a color or class; if none is, what there are so many of is meant."""
    numbers = {
        value: _how_many([item for other, item in objects if other == value])
        for value, _ in objects
    }
    as_many = (value for value, how_many in numbers.items() if how_many == number)
    meant = words if words in numbers else next(as_many, NOTHING)
    yield _equal("number", number, numbers.get(meant, number_word(0)))
    yield _equal(kind, words, meant)


def _surroundings(parts: Sequence[Part], scene: Scene) -> Iterator[Claim]:
    """Where and when it is."""
    for part in parts:
        if part.kind in "BbW":
            settings = _SETTINGS_OF[part.meaning]
            is_true = scene.setting in settings
            yield Claim(
                "setting", part.meaning, is_true, part.meaning if is_true else scene.setting
            )
        elif part.kind == "T":
            yield _equal("weather", part.meaning, scene.weather or NOTHING)
    said = sorted(part.meaning for part in parts if part.kind == "m")
    if said:  # "nothing but sky and sand" names all that there is
        stuff = sorted(region.stuff for region in scene.regions)
        yield _equal("setting", " and ".join(said), " and ".join(stuff))


def _how_many(items: Sequence[SceneObject]) -> str:
    """Their number; nobody counts a crowd."""
    return MANY[0] if any(item.is_crowd for item in items) else number_word(len(items))


def _equal(kind: str, words: str, truth: str) -> Claim:
    return Claim(kind, words, words == truth, truth)


def _settings_of() -> dict[str, set[str]]:
    """The settings of which each phrase is true."""
    settings: dict[str, set[str]] = defaultdict(set)
    for table in (NOUNS, WHERE, TRUE_ELSEWHERE):
        for setting, phrases in table.items():
            for phrase in phrases:
                settings[phrase].add(setting)
    return dict(settings)


_SETTINGS_OF = _settings_of()
_TESTS: dict[str, Callable[[str, Group, Scene], Claim]] = {
    "number": _number,
    "color": _color,
    "class": _class,
    "size": _size,
    "place": _place,
    "side": _side,
}
