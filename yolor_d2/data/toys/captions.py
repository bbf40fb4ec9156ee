"""Captions of toy scenes: sentences from a small grammar, each true of its scene."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .facts import Group, groups_of, relations_of, side_of
from .truth import Scene

Dice = np.random.Generator

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NOUNS: dict[str, tuple[str, ...]] = {
    "meadow": ("meadow", "green field", "grassy hill"),
    "alp": ("mountain meadow", "green valley below mountains", "mountain landscape"),
    "lake": ("mountain lake", "lake below mountains", "wide lake"),
    "pond": ("grassy shore", "green lakeside", "meadow by the water"),
    "beach": ("beach", "sandy beach", "sandy shore"),
    "desert": ("desert", "sandy plain", "sand dune"),
    "sea": ("sea", "wide ocean", "calm sea"),
    "snowfield": ("snowfield", "snowy plain", "winter landscape"),
    "glacier": ("snowy valley", "winter landscape with mountains", "snowfield below mountains"),
    "room": ("room", "room with a bare floor", "room with a wooden floor"),
    "lounge": ("room with a carpet", "living room", "room with a rug on the floor"),
}
_WHERE: dict[str, tuple[str, ...]] = {
    "meadow": ("in the meadow", "in the countryside"),
    "alp": ("in the mountains", "in a green valley"),
    "lake": ("at the lake", "by the mountains"),
    "pond": ("by the water", "at the shore"),
    "beach": ("at the beach", "at the seaside"),
    "desert": ("in the desert", "among the dunes"),
    "sea": ("at sea", "out at sea"),
    "snowfield": ("in winter", "in a snowy landscape"),
    "glacier": ("in the snowy mountains", "in winter"),
    "room": ("in the room", "indoors"),
    "lounge": ("in the living room", "inside a room"),
}
_WHEN: dict[str, tuple[str, ...]] = {
    "clear": ("under a blue sky", "on a sunny day", "on a bright day"),
    "cloudy": ("under a cloudy sky", "on a cloudy day", "under gray clouds"),
    "sunset": ("at sunset", "under an orange sky", "in the evening"),
}
_PLACES: dict[str, tuple[str, ...]] = {
    "sky": ("in the sky", "up in the sky", "in the air"),
    "mountain": ("in front of the mountains",),
    "water": ("on the water",),
    "grass": ("on the grass", "on the green grass"),
    "sand": ("on the sand",),
    "snow": ("on the snow", "on the white snow"),
    "wall": ("on the wall", "in front of the wall"),
    "floor": ("on the floor", "on the wooden floor"),
    "carpet": ("on the carpet", "on the rug"),
}
_RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of", "on the left side of"),
    "right": ("to the right of", "right of", "on the right side of"),
    "above": ("above", "higher up than"),
    "below": ("below", "lower than"),
    "larger": ("larger than", "bigger than"),
    "smaller": ("smaller than",),
}
_EMPTY = (
    "an empty {noun} {when}",
    "there is nothing {where}",
    "{a_noun} without any objects",
    "no objects can be seen {where} {when}",
    "nothing but {stuff}",
    "a view of {a_noun} {when} and nothing else",
    "the picture shows only {stuff}",
    "{when_or_where} the {noun} is empty",
)


class _Phrase(NamedTuple):
    text: str
    is_plural: bool

    @property
    def verb(self) -> str:
        return "are" if self.is_plural else "is"


def write_captions(scene: Scene, rng: Dice, *, count: int = 5) -> list[str]:
    """Different true sentences about a scene, of different structure as far as it allows."""
    captions: list[str] = []
    while len(captions) < count:
        captions += _one_of_each(scene, rng, seen=captions)
    return captions[:count]


def describe(scene: Scene, rng: Dice) -> str:
    """One true sentence about a scene."""
    return write_captions(scene, rng, count=1)[0]


def _one_of_each(scene: Scene, rng: Dice, *, seen: list[str]) -> list[str]:
    """New sentences in random order, each of another structure."""
    sentences: list[str] = []
    structures = _STRUCTURES if scene.objects else (_nothing,) * len(_EMPTY)
    for index in rng.permutation(len(structures)):
        words = structures[index](scene, rng)
        if words is not None:
            sentence = words[0].upper() + words[1:] + "."
            if sentence not in seen and sentence not in sentences:
                sentences.append(sentence)
    return sentences


def _pick(rng: Dice, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _plural(thing: str) -> str:
    return thing + ("es" if thing[-1] in "xs" else "s")


def _name(group: Group, rng: Dice) -> _Phrase:
    """A noun phrase such as "two red balls", "a large green heart" or "a crowd of blue stars"."""
    item, count = group.members[0], len(group.members)
    if group.is_crowd:
        small = _pick(rng, ("small ", "tiny ", ""))
        kind = f"{small}{item.color} {_plural(item.thing)}"
        if rng.random() < 0.4:
            return _Phrase(text=_pick(rng, ("many ", "lots of ")) + kind, is_plural=True)
        return _Phrase(text=_pick(rng, ("a crowd of ", "a group of ")) + kind, is_plural=False)
    sizes = {member.size for member in group.members}
    size = sizes.pop() if len(sizes) == 1 and rng.random() < 0.6 else None
    words = f"{size} {item.color}" if size else item.color
    if count == 1:
        return _Phrase(text=_with_article(f"{words} {item.thing}"), is_plural=False)
    return _Phrase(text=f"{_number(count)} {words} {_plural(item.thing)}", is_plural=True)


def _names(groups: list[Group], rng: Dice, *, most: int = 3) -> tuple[list[_Phrase], str]:
    """Some groups' phrases in random order, and all of them joined by commas and "and"."""
    chosen = [groups[index] for index in rng.permutation(len(groups))[:most]]
    phrases = [_name(group, rng) for group in chosen]
    return phrases, _join([phrase.text for phrase in phrases])


def _join(words: list[str]) -> str:
    """Words listed with commas and "and"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _when(scene: Scene, rng: Dice) -> str:
    return _pick(rng, _WHEN[scene.weather]) if scene.weather else ""


def _tail(scene: Scene, rng: Dice) -> str:
    """Nothing, where or when it is, beginning with a space."""
    options = ["", _pick(rng, _WHERE[scene.setting]), _when(scene, rng)]
    words = options[rng.integers(len(options))]
    return f" {words}" if words else ""


def _listing(scene: Scene, rng: Dice) -> str:
    phrases, joined = _names(groups_of(scene), rng)
    return f"there {phrases[0].verb} {joined}{_tail(scene, rng)}"


def _showing(scene: Scene, rng: Dice) -> str:
    _, joined = _names(groups_of(scene), rng, most=2)
    start = _pick(rng, ("this picture shows", "we see", "one can see", "the image contains"))
    return f"{start} {joined}{_tail(scene, rng)}"


def _setting_first(scene: Scene, rng: Dice) -> str:
    _, joined = _names(groups_of(scene), rng)
    noun = _with_article(_pick(rng, _NOUNS[scene.setting]))
    link = "and" if " with " in noun else "with"
    when = _when(scene, rng) if rng.random() < 0.6 else ""
    return f"{when}, {noun} {link} {joined}" if when else f"{noun} {link} {joined}"


def _bare(scene: Scene, rng: Dice) -> str:
    _, joined = _names(groups_of(scene), rng)
    return f"{joined} {_pick(rng, _WHERE[scene.setting])}"


def _relation(scene: Scene, rng: Dice) -> str | None:
    relations = relations_of(scene)
    if not relations:
        return None
    words = {relation.word for relation in relations}
    # Left and right are what a mirrored picture gets wrong, so they are said often.
    sideways = words & {"left", "right"}
    word = _pick(rng, tuple(sorted(sideways if sideways and rng.random() < 0.5 else words)))
    fitting = [relation for relation in relations if relation.word == word]
    first, _, second = fitting[rng.integers(len(fitting))]
    phrase = _name(first, rng)
    link = f"{phrase.verb} {_pick(rng, _RELATIONS[word])}"
    return f"{phrase.text} {link} {_name(second, rng).text}{_tail(scene, rng)}"


def _placing(scene: Scene, rng: Dice) -> str | None:
    placed = [group for group in groups_of(scene) if group.place is not None]
    if not placed:
        return None
    parts = []
    for index in rng.permutation(len(placed))[:2]:
        group, phrase = placed[index], _name(placed[index], rng)
        place = group.place or ""
        verbs = ("float", "hover") if place in ("sky", "mountain") else ("lie", "rest", "sit")
        verb = _pick(rng, verbs) + ("" if phrase.is_plural else "s")
        parts.append(f"{phrase.text} {verb} {_pick(rng, _PLACES[place])}")
    return " while ".join(parts)


def _placed_first(scene: Scene, rng: Dice) -> str | None:
    placed = [group for group in groups_of(scene) if group.place is not None]
    if not placed:
        return None
    group = placed[rng.integers(len(placed))]
    phrase = _name(group, rng)
    return f"{_pick(rng, _PLACES[group.place or ''])} there {phrase.verb} {phrase.text}"


def _siding(scene: Scene, rng: Dice) -> str | None:
    sided = [(group, side_of(group, scene)) for group in groups_of(scene)]
    known = [(group, side) for group, side in sided if side is not None]
    if not known:
        return None
    group, side = known[rng.integers(len(known))]
    phrase = _name(group, rng)
    others = [(other, where) for other, where in known if where != side]
    if others and rng.random() < 0.7:
        other, where = others[rng.integers(len(others))]
        return f"{phrase.text} {side} and {_name(other, rng).text} {where}"
    if rng.random() < 0.5:
        return f"{side} {phrase.verb} {phrase.text}{_tail(scene, rng)}"
    frame = _pick(rng, ("", " of the picture", " of the scene", " of this image"))
    return f"{phrase.text} {phrase.verb} {side}{frame}"


def _counting(scene: Scene, rng: Dice) -> str | None:
    """How many objects there are, or how many of them share a color or a class."""
    total = len(scene.objects)
    if total < 2 or any(item.is_crowd for item in scene.objects):
        return None
    word = _pick(rng, ("shapes", "objects", "things"))
    item = scene.objects[rng.integers(total)]
    same_color = sum(other.color == item.color for other in scene.objects)
    same_thing = sum(other.thing == item.thing for other in scene.objects)
    if same_thing > 1 and (same_thing == total or rng.random() < 0.6):
        return f"{_number(same_thing)} {_plural(item.thing)}{_tail(scene, rng)}"
    if 1 < same_color < total:
        return f"{_number(same_color)} of the {_number(total)} {word} are {item.color}"
    _, joined = _names(groups_of(scene), rng, most=total)
    return f"{_number(total)} {word}{_tail(scene, rng)}, {joined}"


def _nothing(scene: Scene, rng: Dice) -> str:
    noun = _pick(rng, _NOUNS[scene.setting])
    where, when = _pick(rng, _WHERE[scene.setting]), _when(scene, rng)
    stuff = [region.stuff for region in sorted(scene.regions, key=lambda region: -region.area)]
    words = _pick(rng, _EMPTY).format(
        noun=noun,
        a_noun=_with_article(noun),
        where=where,
        when=when,
        when_or_where=when or where,
        stuff=_join(stuff),
    )
    return " ".join(words.split())


_STRUCTURES: tuple[Callable[[Scene, Dice], str | None], ...] = (
    _listing,
    _showing,
    _setting_first,
    _bare,
    _relation,
    _relation,
    _relation,
    _placing,
    _placed_first,
    _siding,
    _siding,
    _counting,
)
