"""Captions of toy scenes: sentences from a small grammar, each true of its scene."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .facts import Group, groups_of, relations_of, side_of
from .phrases import (
    ANYTHING,
    CROWD,
    EMPTY,
    FRAMES,
    HANGING,
    MANY,
    NOUNS,
    PLACES,
    RELATIONS,
    SHOWING,
    STANDING,
    WHEN,
    WHERE,
    join,
    number_word,
    plural,
    with_article,
)
from .truth import Scene

Dice = np.random.Generator


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
    structures = _STRUCTURES if scene.objects else (_nothing,) * len(EMPTY)
    for index in rng.permutation(len(structures)):
        words = structures[index](scene, rng)
        if words is not None:
            sentence = words[0].upper() + words[1:] + "."
            if sentence not in seen and sentence not in sentences:
                sentences.append(sentence)
    return sentences


def _pick(rng: Dice, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _name(group: Group, rng: Dice) -> _Phrase:
    """A noun phrase such as "two red balls", "a large green heart" or "a crowd of blue stars"."""
    item, count = group.members[0], len(group.members)
    if group.is_crowd:
        small = _pick(rng, ("small ", "tiny ", ""))
        kind = f" {small}{item.color} {plural(item.thing)}"
        if rng.random() < 0.4:
            return _Phrase(text=_pick(rng, MANY) + kind, is_plural=True)
        return _Phrase(text=_pick(rng, CROWD) + kind, is_plural=False)
    sizes = {member.size for member in group.members}
    size = sizes.pop() if len(sizes) == 1 and rng.random() < 0.6 else None
    words = f"{size} {item.color}" if size else item.color
    if count == 1:
        return _Phrase(text=with_article(f"{words} {item.thing}"), is_plural=False)
    return _Phrase(text=f"{number_word(count)} {words} {plural(item.thing)}", is_plural=True)


def _names(groups: list[Group], rng: Dice, *, most: int = 3) -> tuple[list[_Phrase], str]:
    """Some groups' phrases in random order, and all of them joined by commas and "and"."""
    chosen = [groups[index] for index in rng.permutation(len(groups))[:most]]
    phrases = [_name(group, rng) for group in chosen]
    return phrases, join([phrase.text for phrase in phrases])


def _when(scene: Scene, rng: Dice) -> str:
    return _pick(rng, WHEN[scene.weather]) if scene.weather else ""


def _tail(scene: Scene, rng: Dice) -> str:
    """Nothing, where or when it is, beginning with a space."""
    options = ["", _pick(rng, WHERE[scene.setting]), _when(scene, rng)]
    words = options[rng.integers(len(options))]
    return f" {words}" if words else ""


def _listing(scene: Scene, rng: Dice) -> str:
    phrases, joined = _names(groups_of(scene), rng)
    return f"there {phrases[0].verb} {joined}{_tail(scene, rng)}"


def _showing(scene: Scene, rng: Dice) -> str:
    _, joined = _names(groups_of(scene), rng, most=2)
    return f"{_pick(rng, SHOWING)} {joined}{_tail(scene, rng)}"


def _setting_first(scene: Scene, rng: Dice) -> str:
    _, joined = _names(groups_of(scene), rng)
    noun = with_article(_pick(rng, NOUNS[scene.setting]))
    link = "and" if " with " in noun else "with"
    when = _when(scene, rng) if rng.random() < 0.6 else ""
    return f"{when}, {noun} {link} {joined}" if when else f"{noun} {link} {joined}"


def _bare(scene: Scene, rng: Dice) -> str:
    _, joined = _names(groups_of(scene), rng)
    return f"{joined} {_pick(rng, WHERE[scene.setting])}"


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
    link = f"{phrase.verb} {_pick(rng, RELATIONS[word])}"
    return f"{phrase.text} {link} {_name(second, rng).text}{_tail(scene, rng)}"


def _placing(scene: Scene, rng: Dice) -> str | None:
    placed = [group for group in groups_of(scene) if group.place is not None]
    if not placed:
        return None
    parts = []
    for index in rng.permutation(len(placed))[:2]:
        group, phrase = placed[index], _name(placed[index], rng)
        place = group.place or ""
        verbs = HANGING if place in ("sky", "mountain") else STANDING
        verb = _pick(rng, verbs) + ("" if phrase.is_plural else "s")
        parts.append(f"{phrase.text} {verb} {_pick(rng, PLACES[place])}")
    return " while ".join(parts)


def _placed_first(scene: Scene, rng: Dice) -> str | None:
    placed = [group for group in groups_of(scene) if group.place is not None]
    if not placed:
        return None
    group = placed[rng.integers(len(placed))]
    phrase = _name(group, rng)
    return f"{_pick(rng, PLACES[group.place or ''])} there {phrase.verb} {phrase.text}"


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
    frame = _pick(rng, ("", *FRAMES))
    return f"{phrase.text} {phrase.verb} {side}{frame}"


def _counting(scene: Scene, rng: Dice) -> str | None:
    """How many objects there are, or how many of them share a color or a class."""
    total = len(scene.objects)
    if total < 2 or any(item.is_crowd for item in scene.objects):
        return None
    word = _pick(rng, ANYTHING)
    item = scene.objects[rng.integers(total)]
    same_color = sum(other.color == item.color for other in scene.objects)
    same_thing = sum(other.thing == item.thing for other in scene.objects)
    if same_thing > 1 and (same_thing == total or rng.random() < 0.6):
        return f"{number_word(same_thing)} {plural(item.thing)}{_tail(scene, rng)}"
    if 1 < same_color < total:
        return f"{number_word(same_color)} of the {number_word(total)} {word} are {item.color}"
    _, joined = _names(groups_of(scene), rng, most=total)
    return f"{number_word(total)} {word}{_tail(scene, rng)}, {joined}"


def _nothing(scene: Scene, rng: Dice) -> str:
    noun = _pick(rng, NOUNS[scene.setting])
    where, when = _pick(rng, WHERE[scene.setting]), _when(scene, rng)
    stuff = [region.stuff for region in sorted(scene.regions, key=lambda region: -region.area)]
    words = _pick(rng, EMPTY).format(
        noun=noun,
        a_noun=with_article(noun),
        where=where,
        when=when,
        when_or_where=when or where,
        stuff=join(stuff),
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
