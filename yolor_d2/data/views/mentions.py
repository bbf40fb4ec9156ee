"""Finds the names of classes in captions."""

import re
from collections.abc import Sequence

from ...tokenizer import Tokenizer

NO_CLASS = -1

_IRREGULAR = {"person": "people", "mouse": "mice", "knife": "knives", "man": "men"}


class ClassMentions:
    """Marks the tokens that end the name of a class, in the singular or plural.

    Names are whole words, and case is ignored: "Two fire trucks" has the class "fire truck", but
    not the class "truck".
    """

    def __init__(self, names: Sequence[str]) -> None:
        """
        Args:
            names: of the classes, in their order.
        """
        self._classes = {
            form: number
            for number, name in reversed(list(enumerate(names)))  # the first of equal names counts
            for form in (plural(name.lower()), name.lower())
        }
        longest_first = sorted(self._classes, key=len, reverse=True)
        words = "|".join(map(re.escape, longest_first)) or r"(?!)"  # no names: no mentions
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)")

    def marks(self, caption: str, ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
        """The class whose name ends at each token, or NO_CLASS.

        Args:
            caption: the text.
            ids: its tokens, with begin and end; can be cut.
            tokenizer: of the tokens.
        """
        marks = [NO_CLASS] * len(ids)
        text = caption.lower()
        for match in self._pattern.finditer(text):
            beginning = tokenizer.encode(text[: match.end()])[:-1]
            # A vocabulary can have pieces that go beyond the word.
            if list(ids[: len(beginning)]) == beginning and len(beginning) < len(ids):
                marks[len(beginning) - 1] = self._classes[match.group()]
        return marks


def plural(name: str) -> str:
    """The plural of the last word of a name."""
    *first, last = name.split(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return " ".join([*first, last])
