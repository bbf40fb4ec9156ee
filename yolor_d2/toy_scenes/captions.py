"""Writes captions of toy scenes: true sentences of a small grammar."""

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

Generator = np.random.Generator


class _Phrase(NamedTuple):
    text: str
    is_plural: bool

    @property
    def verb(self) -> str:
        return "are" if self.is_plural else "is"


def write_captions(scene: Scene, rng: Generator, *, count: int = 5) -> list[str]:
    """Write different true sentences about a scene, with different structures where possible."""
    captions: list[str] = []
    while len(captions) < count:
        captions += _one_of_each(scene, rng, seen=captions)
    return captions[:count]


def describe(scene: Scene, rng: Generator) -> str:
    """Write one true sentence about a scene."""
    return write_captions(scene, rng, count=1)[0]


def _one_of_each(scene: Scene, rng: Generator, *, seen: list[str]) -> list[str]:
    """Write new sentences in random order, each with a different structure."""
    sentences: list[str] = []
    structures = _STRUCTURES if scene.objects else (_empty_scene,) * len(EMPTY)
    for index in rng.permutation(len(structures)):
        words = structures[index](scene, rng)
        if words is not None:
            sentence = words[0].upper() + words[1:] + "."
            if sentence not in seen and sentence not in sentences:
                sentences.append(sentence)
    return sentences


def _choose(rng: Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _noun_phrase(group: Group, rng: Generator) -> _Phrase:
    """Write a noun phrase: "two red balls", "a large green heart", "a crowd of blue stars"."""
    item, count = group.members[0], len(group.members)
    if group.is_crowd:
        small = _choose(rng, ("small ", "tiny ", ""))
        kind = f" {small}{item.color} {plural(item.thing)}"
        if rng.random() < 0.4:
            return _Phrase(text=_choose(rng, MANY) + kind, is_plural=True)
        return _Phrase(text=_choose(rng, CROWD) + kind, is_plural=False)
    sizes = {member.size for member in group.members}
    size = sizes.pop() if len(sizes) == 1 and rng.random() < 0.6 else None
    words = f"{size} {item.color}" if size else item.color
    if count == 1:
        return _Phrase(text=with_article(f"{words} {item.thing}"), is_plural=False)
    return _Phrase(text=f"{number_word(count)} {words} {plural(item.thing)}", is_plural=True)


def _noun_phrases(
    groups: list[Group], rng: Generator, *, most: int = 3
) -> tuple[list[_Phrase], str]:
    """Write the phrases of at most `most` groups in random order, and the joined phrases."""
    chosen = [groups[index] for index in rng.permutation(len(groups))[:most]]
    phrases = [_noun_phrase(group, rng) for group in chosen]
    return phrases, join([phrase.text for phrase in phrases])


def _when(scene: Scene, rng: Generator) -> str:
    return _choose(rng, WHEN[scene.weather]) if scene.weather else ""


def _tail(scene: Scene, rng: Generator) -> str:
    """Write an optional phrase of place or time, with a leading space."""
    options = ["", _choose(rng, WHERE[scene.setting]), _when(scene, rng)]
    words = options[rng.integers(len(options))]
    return f" {words}" if words else ""


def _listing(scene: Scene, rng: Generator) -> str:
    phrases, joined = _noun_phrases(groups_of(scene), rng)
    return f"there {phrases[0].verb} {joined}{_tail(scene, rng)}"


def _showing(scene: Scene, rng: Generator) -> str:
    _, joined = _noun_phrases(groups_of(scene), rng, most=2)
    return f"{_choose(rng, SHOWING)} {joined}{_tail(scene, rng)}"


def _setting_first(scene: Scene, rng: Generator) -> str:
    _, joined = _noun_phrases(groups_of(scene), rng)
    noun = with_article(_choose(rng, NOUNS[scene.setting]))
    link = "and" if " with " in noun else "with"
    when = _when(scene, rng) if rng.random() < 0.6 else ""
    return f"{when}, {noun} {link} {joined}" if when else f"{noun} {link} {joined}"


def _objects_and_setting(scene: Scene, rng: Generator) -> str:
    _, joined = _noun_phrases(groups_of(scene), rng)
    return f"{joined} {_choose(rng, WHERE[scene.setting])}"


def _relation(scene: Scene, rng: Generator) -> str | None:
    relations = relations_of(scene)
    if not relations:
        return None
    words = {relation.word for relation in relations}
    # Left and right are frequent, as they detect mirrored training images.
    sideways = words & {"left", "right"}
    word = _choose(rng, tuple(sorted(sideways if sideways and rng.random() < 0.5 else words)))
    fitting = [relation for relation in relations if relation.word == word]
    first, _, second = fitting[rng.integers(len(fitting))]
    phrase = _noun_phrase(first, rng)
    link = f"{phrase.verb} {_choose(rng, RELATIONS[word])}"
    return f"{phrase.text} {link} {_noun_phrase(second, rng).text}{_tail(scene, rng)}"


def _places(scene: Scene, rng: Generator) -> str | None:
    placed = [group for group in groups_of(scene) if group.place is not None]
    if not placed:
        return None
    parts = []
    for index in rng.permutation(len(placed))[:2]:
        group, phrase = placed[index], _noun_phrase(placed[index], rng)
        place = group.place or ""
        verbs = HANGING if place in ("sky", "mountain") else STANDING
        verb = _choose(rng, verbs) + ("" if phrase.is_plural else "s")
        parts.append(f"{phrase.text} {verb} {_choose(rng, PLACES[place])}")
    return " while ".join(parts)


def _place_first(scene: Scene, rng: Generator) -> str | None:
    placed = [group for group in groups_of(scene) if group.place is not None]
    if not placed:
        return None
    group = placed[rng.integers(len(placed))]
    phrase = _noun_phrase(group, rng)
    return f"{_choose(rng, PLACES[group.place or ''])} there {phrase.verb} {phrase.text}"


def _sides(scene: Scene, rng: Generator) -> str | None:
    sided = [(group, side_of(group, scene)) for group in groups_of(scene)]
    known = [(group, side) for group, side in sided if side is not None]
    if not known:
        return None
    group, side = known[rng.integers(len(known))]
    phrase = _noun_phrase(group, rng)
    others = [(other, where) for other, where in known if where != side]
    if others and rng.random() < 0.7:
        other, where = others[rng.integers(len(others))]
        return f"{phrase.text} {side} and {_noun_phrase(other, rng).text} {where}"
    if rng.random() < 0.5:
        return f"{side} {phrase.verb} {phrase.text}{_tail(scene, rng)}"
    frame = _choose(rng, ("", *FRAMES))
    return f"{phrase.text} {phrase.verb} {side}{frame}"


def _counting(scene: Scene, rng: Generator) -> str | None:
    """Count all objects, or those of a color or a class."""
    total = len(scene.objects)
    if total < 2 or any(item.is_crowd for item in scene.objects):
        return None
    word = _choose(rng, ANYTHING)
    item = scene.objects[rng.integers(total)]
    same_color = sum(other.color == item.color for other in scene.objects)
    same_thing = sum(other.thing == item.thing for other in scene.objects)
    if same_thing > 1 and (same_thing == total or rng.random() < 0.6):
        return f"{number_word(same_thing)} {plural(item.thing)}{_tail(scene, rng)}"
    if 1 < same_color < total:
        return f"{number_word(same_color)} of the {number_word(total)} {word} are {item.color}"
    _, joined = _noun_phrases(groups_of(scene), rng, most=total)
    return f"{number_word(total)} {word}{_tail(scene, rng)}, {joined}"


def _empty_scene(scene: Scene, rng: Generator) -> str:
    noun = _choose(rng, NOUNS[scene.setting])
    where, when = _choose(rng, WHERE[scene.setting]), _when(scene, rng)
    stuff = [region.stuff for region in sorted(scene.regions, key=lambda region: -region.area)]
    words = _choose(rng, EMPTY).format(
        noun=noun,
        a_noun=with_article(noun),
        where=where,
        when=when,
        when_or_where=when or where,
        stuff=join(stuff),
    )
    return " ".join(words.split())


_STRUCTURES: tuple[Callable[[Scene, Generator], str | None], ...] = (
    _listing,
    _showing,
    _setting_first,
    _objects_and_setting,
    _relation,
    _relation,
    _relation,
    _places,
    _place_first,
    _sides,
    _sides,
    _counting,
)
