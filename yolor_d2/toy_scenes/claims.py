"""Checks the claims of a caption against the ground truth of a toy scene.

Claims are checked without the margins that the generator applies: it writes only clear facts, but
"left of" is true of any object whose center is left of the other one. Numbers, colors and classes
are exact: of three red balls, "two red balls" and "a red ball" are false.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ..data.files.contents import read_json
from .facts import SIDES, Group, groups_of, side_of
from .grammar import Part, Sentence, parse
from .measure import LARGE, SMALL
from .phrases import MANY, NOUNS, TRUE_ELSEWHERE, WHERE, number_word
from .truth import UPRIGHT_STUFF, Scene, SceneObject

KINDS = (
    "number",
    "color",
    "class",
    "size",
    "relation",
    "place",
    "side",
    "setting",
    "weather",
)
NOTHING = "nothing"

# Between the bounds of small and large objects; about half of all objects are larger.
_HALFWAY = (LARGE * SMALL) ** 0.5
_OPPOSITES = dict(zip(("left", "above", "larger"), ("right", "below", "smaller"), strict=True))
_OPPOSITES |= {second: first for first, second in _OPPOSITES.items()}

_Statements = list[tuple[str, str]]  # Kinds and words of claims.


class Claim(NamedTuple):
    """A single claim of a caption.

    Attributes:
        kind: one of KINDS.
        words: the claim in the vocabulary of `Scene`, for instance "left" for "on the left side
            of"; settings are as written in the caption.
        is_true: whether the claim is true.
        truth: the true value; "" if ambiguous, NOTHING if the scene has no such object.
    """

    kind: str
    words: str
    is_true: bool
    truth: str


class CaptionClaims(NamedTuple):
    """The claims of a caption, and the words outside of the grammar."""

    claims: tuple[Claim, ...]
    leftover: str

    @property
    def is_truthful(self) -> bool:
        """Whether there are at least two claims, all true, and no words outside of the grammar."""
        true = [claim.is_true for claim in self.claims]
        return len(true) >= 2 and all(true) and not self.leftover


def check_caption(caption: str, scene: Scene) -> CaptionClaims:
    """Return all claims of a caption, each checked against the scene."""
    sentence = parse(caption)
    statements = _statements_about_nouns(sentence.parts)
    groups = _match_groups(statements, scene)
    claims = [*_counting_claims(sentence, scene), *_setting_claims(sentence.parts, scene)]
    for about_noun, group in zip(statements, groups, strict=True):
        claims += _claims_of(about_noun, group, scene)
    relations = [part.meaning for part in sentence.parts if part.kind == "R"]
    claims += [_relation(word, *groups) for word in relations]
    return CaptionClaims(claims=tuple(claims), leftover=sentence.leftover)


def read_caption_checkers(path: Path) -> dict[int, Callable[[str], CaptionClaims]]:
    """Return a function for each image that checks its captions, from annotations/scenes_*.json."""
    records = read_json(path)["scenes"]
    return {
        record["image_id"]: partial(check_caption, scene=Scene.from_json(record))
        for record in records
    }


def _statements_about_nouns(parts: Sequence[Part]) -> list[_Statements]:
    """Collect the statements about each noun phrase that concern only its own group."""
    statements: list[_Statements] = []
    before: _Statements = []  # Statements before their noun: "on the left is a red ball".
    for part in parts:
        if part.noun is not None:
            number, size, color, thing = part.noun
            statements.append([("number", number), ("color", color), ("class", thing), *before])
            statements[-1] += [("size", size)] if size else []
            before = []
        elif part.kind in "SP":
            kind = "side" if part.kind == "S" else "place"
            (statements[-1] if statements else before).append((kind, part.meaning))
    return statements


def _match_groups(statements: Sequence[_Statements], scene: Scene) -> list[Group | None]:
    """Match each noun phrase to a different group; None if there are not enough groups.

    A group of the same color and class is preferred, then the group with the most true claims.
    """
    groups = groups_of(scene)

    def likeness(pair: tuple[int, int]) -> tuple[int, int, bool]:
        claims = _claims_of(statements[pair[0]], groups[pair[1]], scene)
        true = {claim.kind for claim in claims if claim.is_true}
        return len(true & {"color", "class"}), len(true), "color" in true

    matched: dict[int, int] = {}
    for noun, group in sorted(
        product(range(len(statements)), range(len(groups))), key=likeness, reverse=True
    ):
        if noun not in matched and group not in matched.values():
            matched[noun] = group
    return [groups[matched[noun]] if noun in matched else None for noun in range(len(statements))]


def _claims_of(statements: _Statements, group: Group | None, scene: Scene) -> list[Claim]:
    """Check the statements about a noun phrase against its group."""
    if group is None:
        return [Claim(kind, words, False, NOTHING) for kind, words in statements]
    return [_CHECKS[kind](words, group, scene) for kind, words in statements]


def _number(words: str, group: Group, scene: Scene) -> Claim:
    return _equality("number", words, _number_of(group.members))


def _color(words: str, group: Group, scene: Scene) -> Claim:
    return _equality("color", words, group.members[0].color)


def _class(words: str, group: Group, scene: Scene) -> Claim:
    return _equality("class", words, group.members[0].thing)


def _size(words: str, group: Group, scene: Scene) -> Claim:
    extents = [max(member.box[2:]) / scene.height for member in group.members]
    if group.is_crowd or max(extents) < _HALFWAY:
        return _equality("size", words, "small")
    return _equality("size", words, "large" if min(extents) > _HALFWAY else "")


def _place(words: str, group: Group, scene: Scene) -> Claim:
    is_true = all(_stands_on(item, words, scene) for item in group.members)
    return Claim("place", words, is_true, words if is_true else group.place or "")


def _stands_on(item: SceneObject, stuff: str, scene: Scene) -> bool:
    """If the place is ambiguous, the stuff below the middle of the lower border is also true."""
    if item.place is not None or stuff in UPRIGHT_STUFF:
        return item.place == stuff
    across, bottom = item.center[0], item.box[1] + item.box[3]
    boxes = [region.box for region in scene.regions if region.stuff == stuff]
    return any(x <= across <= x + w and y < bottom <= y + h for x, y, w, h in boxes)


def _side(words: str, group: Group, scene: Scene) -> Claim:
    """Left and right are halves of the image; top, bottom and middle are thirds."""
    across = [member.center[0] / scene.width for member in group.members]
    down = [member.center[1] / scene.height for member in group.members]
    conditions = (
        max(across) < 1 / 2,
        min(across) > 1 / 2,
        max(down) < 1 / 3,
        min(down) > 2 / 3,
        all(1 / 3 < share < 2 / 3 for share in across + down),
    )
    is_true = conditions[SIDES.index(words)]
    return Claim("side", words, is_true, words if is_true else side_of(group, scene) or "")


def _relation(word: str, first: Group | None, second: Group | None) -> Claim:
    """Check a relation between all members of two groups."""
    if first is None or second is None:
        return Claim("relation", word, False, NOTHING)
    true_relations = (
        each
        for each in (word, _OPPOSITES[word])
        if all(_is_true_relation(each, a, b) for a in first.members for b in second.members)
    )
    return _equality("relation", word, next(true_relations, ""))


def _is_true_relation(word: str, first: SceneObject, second: SceneObject) -> bool:
    if word in ("right", "below", "smaller"):
        return _is_true_relation(_OPPOSITES[word], second, first)
    if word == "larger":  # Ambiguous for a crowd: its size or that of its shapes.
        countable = not (first.is_crowd or second.is_crowd)
        return countable and max(first.box[2:]) > max(second.box[2:])
    axis = 0 if word == "left" else 1
    return first.center[axis] < second.center[axis]


def _counting_claims(sentence: Sentence, scene: Scene) -> Iterator[Claim]:
    """Yield the claims of sentences that count objects or describe an empty scene."""
    parts, kinds = sentence.parts, sentence.kinds
    if sentence.is_about_empty_scene:
        yield _equality("number", number_word(0), _number_of(scene.objects))
    elif kinds.startswith("QoQ"):
        yield _equality("number", parts[2].meaning, _number_of(scene.objects))
        colors = [(item.color, item) for item in scene.objects]
        yield from _count_claims("color", parts[0].meaning, parts[5].meaning, colors)
    elif kinds.startswith("QO"):
        yield _equality("number", parts[0].meaning, _number_of(scene.objects))
    elif kinds.startswith("QK"):
        classes = [(item.thing, item) for item in scene.objects]
        yield from _count_claims("class", parts[0].meaning, parts[1].meaning, classes)


def _count_claims(
    kind: str, number: str, words: str, objects: Sequence[tuple[str, SceneObject]]
) -> Iterator[Claim]:
    """Yield claims that `number` objects have a color or class, or match another one by number."""
    numbers = {
        value: _number_of([item for other, item in objects if other == value])
        for value, _ in objects
    }
    as_many = (value for value, count in numbers.items() if count == number)
    matched = words if words in numbers else next(as_many, NOTHING)
    yield _equality("number", number, numbers.get(matched, number_word(0)))
    yield _equality(kind, words, matched)


def _setting_claims(parts: Sequence[Part], scene: Scene) -> Iterator[Claim]:
    """Yield the claims about setting and weather."""
    for part in parts:
        if part.kind in "BbW":
            settings = _SETTINGS_OF[part.meaning]
            is_true = scene.setting in settings
            yield Claim(
                "setting", part.meaning, is_true, part.meaning if is_true else scene.setting
            )
        elif part.kind == "T":
            yield _equality("weather", part.meaning, scene.weather or NOTHING)
    named = sorted(part.meaning for part in parts if part.kind == "m")
    if named:  # "nothing but sky and sand" must name all stuff
        stuff = sorted(region.stuff for region in scene.regions)
        yield _equality("setting", " and ".join(named), " and ".join(stuff))


def _number_of(items: Sequence[SceneObject]) -> str:
    """Return the number of objects as a word; "many" for a crowd."""
    return MANY[0] if any(item.is_crowd for item in items) else number_word(len(items))


def _equality(kind: str, words: str, truth: str) -> Claim:
    return Claim(kind, words, words == truth, truth)


def _settings_of() -> dict[str, set[str]]:
    """Return the settings of which each phrase is true."""
    settings: dict[str, set[str]] = defaultdict(set)
    for table in (NOUNS, WHERE, TRUE_ELSEWHERE):
        for setting, phrases in table.items():
            for phrase in phrases:
                settings[phrase].add(setting)
    return dict(settings)


_SETTINGS_OF = _settings_of()
_CHECKS: dict[str, Callable[[str, Group, Scene], Claim]] = {
    "number": _number,
    "color": _color,
    "class": _class,
    "size": _size,
    "place": _place,
    "side": _side,
}
