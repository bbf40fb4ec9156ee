"""Parser of toy captions: words form parts of known kinds, and parts form a sentence."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .facts import SIDES
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
    number_word,
    plural,
    with_article,
)
from .truth import COLORS, STUFF_CLASSES, THING_CLASSES


class Noun(NamedTuple):
    """A parsed noun phrase; `number` is "many" for a crowd."""

    number: str
    size: str | None
    color: str
    thing: str


class Part(NamedTuple):
    """Words of a caption and their meaning, in the vocabulary of `Scene`.

    `kind` is a letter:
        n, N: a noun phrase, singular or plural, with its `noun`
        v, V: "is", "are"; l, L: "lies", "lie" and the like
        R, P, S: a relation, a place, a side; F: "of the picture"
        W, T: phrases of WHERE and WHEN; B, b: a setting with and without its article
        Q, O, C, K, o: a number, "things", a color, a class in the plural, "of the"
        m: stuff; &, i, t, w: "and", "with", "there", "while"; s: "we see"
        others: fixed words of the sentences about empty scenes
    """

    kind: str
    words: str
    meaning: str
    noun: Noun | None = None


class Sentence(NamedTuple):
    """The longest sentence at the beginning of a caption, and the words after it."""

    parts: tuple[Part, ...]
    leftover: str

    @property
    def kinds(self) -> str:
        """The concatenated kinds of the parts."""
        return "".join(part.kind for part in self.parts)

    @property
    def is_about_empty_scene(self) -> bool:
        """Whether the sentence describes an empty scene."""
        return any(part.kind in _EMPTY_KINDS.values() for part in self.parts)


def parse(caption: str) -> Sentence:
    """Parse a caption, ignoring case, commas and periods, which caption metrics remove."""
    text = " ".join(re.sub(r"[.,]", " ", caption.lower()).split())
    parts: list[Part] = []
    while part := _first_part(text):
        parts.append(part)
        text = text[len(part.words) :].lstrip()
    kinds = "".join(part.kind for part in parts)
    lengths = range(len(parts), 0, -1)
    length = next((n for n in lengths if _SENTENCE.fullmatch(kinds[:n])), 0)
    leftover = " ".join([*(part.words for part in parts[length:]), *text.split()])
    return Sentence(parts=tuple(parts[:length]), leftover=leftover)


def _first_part(text: str) -> Part | None:
    """Return the longest known part at the beginning of a text."""
    if match := _NOUN.match(text):
        return _noun_part(match)
    if match := _PHRASE.match(text):
        return _PARTS[match[0]]
    return None


def _noun_part(match: re.Match[str]) -> Part | None:
    """Return a noun phrase; None if its number or article does not agree with its noun."""
    words, number, crowd, size, color, thing = match[0], *match.groups()
    is_one = number in ("a", "an", "one")
    agrees = is_one == (thing in THING_CLASSES)
    if not agrees or (number in ("a", "an") and words != with_article(words.partition(" ")[2])):
        return None
    noun = Noun(
        number=MANY[0] if crowd else "one" if is_one else number,
        size="small" if size == "tiny" else size,
        color=color,
        thing=_SINGULAR.get(thing, thing),
    )
    return Part("n" if is_one or crowd in CROWD else "N", words, words, noun)


def _parts() -> dict[str, Part]:
    """Return all parts except noun phrases, by their words."""
    verbs = HANGING + STANDING
    plain: dict[str, Iterable[str]] = {
        "v": ["is"],
        "V": ["are"],
        "l": [f"{verb}s" for verb in verbs],
        "L": verbs,
        "t": ["there"],
        "w": ["while"],
        "&": ["and"],
        "i": ["with"],
        "o": ["of the"],
        "s": SHOWING,
        "S": SIDES,
        "F": [frame.strip() for frame in FRAMES],
        "O": ANYTHING,
        "C": COLORS,
        "m": STUFF_CLASSES,
        "Q": _COUNTS,
        "b": _flat(NOUNS),
        "W": _flat(WHERE),
        **{kind: [words] for words, kind in _EMPTY_KINDS.items()},
    }
    tables: dict[str, Mapping[str, str]] = {
        **{kind: {word: word for word in words} for kind, words in plain.items()},
        "R": _inverse(RELATIONS),
        "P": _inverse(PLACES),
        "T": _inverse(WHEN),
        "B": {with_article(noun): noun for noun in _flat(NOUNS)},
        "K": _SINGULAR,
    }
    return {
        words: Part(kind, words, meaning)
        for kind, meanings in tables.items()
        for words, meaning in meanings.items()
    }


def _flat(table: Mapping[str, Iterable[str]]) -> list[str]:
    return [words for phrases in table.values() for words in phrases]


def _inverse(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {words: meaning for meaning, phrases in table.items() for words in phrases}


def _any_of(options: Iterable[str]) -> str:
    """Return a pattern that matches any of the options, the longest first."""
    return "|".join(map(re.escape, sorted(options, key=len, reverse=True)))


def _empty_pattern(template: str) -> str:
    """Return a pattern of the kinds of a sentence about an empty scene."""
    pieces = (piece.strip() for piece in _SLOT.split(template))
    return "".join(_SLOTS.get(piece) or _EMPTY_KINDS[piece] for piece in pieces if piece)


_COUNTS = [number_word(count) for count in range(1, 100)]
_SINGULAR = {plural(thing): thing for thing in THING_CLASSES}
_SLOT = re.compile(r"({\w+})")
_SLOTS = {
    "{noun}": "b",
    "{a_noun}": "B",
    "{where}": "W",
    "{when}": "T?",
    "{when_or_where}": "[TW]",
    "{stuff}": "m(?:m*&m)?",
}
_EMPTY_KINDS = {
    words: chr(ord("①") + index)
    for index, words in enumerate(
        dict.fromkeys(
            piece.strip()
            for template in EMPTY
            for piece in _SLOT.split(template)
            if piece.strip() and not _SLOT.match(piece)
        )
    )
}
_PARTS = _parts()
_PHRASE = re.compile(rf"(?:{_any_of(_PARTS)})(?!\S)")
_NOUN = re.compile(
    rf"(?:({_any_of(['a', 'an', *_COUNTS])})|({_any_of(MANY + CROWD)}))"
    rf" (?:(large|small|tiny) )?({_any_of(COLORS)})"
    rf" ({_any_of([*THING_CLASSES, *_SINGULAR])})(?!\S)"
)
_LIST = "[nN](?:[nN]*&[nN])?"
_BE_LIST = "(?:vn|VN)(?:[nN]*&[nN])?"
_SENTENCE = re.compile(
    "|".join(
        [
            f"t{_BE_LIST}W?T?",
            f"s?{_LIST}W?T?",
            f"T?B[&i]{_LIST}",
            "(?:nv|NV)R[nN]W?T?",
            "(?:nl|NL)P(?:w(?:nl|NL)P)?",
            "Pt(?:vn|VN)",
            "[nN]S&[nN]S",
            "S(?:vn|VN)W?T?",
            "(?:nv|NV)SF?",
            "QoQOVC",
            "QKW?T?",
            f"QOW?T?{_LIST}",
            *map(_empty_pattern, EMPTY),
        ]
    )
)
