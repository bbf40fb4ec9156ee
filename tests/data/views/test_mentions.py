"""Which tokens of a caption end the name of a class."""

from collections.abc import Sequence

import pytest

from yolor_d2.data.views.mentions import NO_CLASS, ClassMentions, plural
from yolor_d2.tokenizer import Tokenizer

NAMES = ("person", "truck", "fire truck", "bus", "box")
CAPTIONS = (
    "Two people wait beside a fire truck.",
    "A bus and two buses pass trucks, a boxer and a box.",
    "There is nothing here.",
)


@pytest.fixture(scope="module", params=["bpe", "words"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bpe":
        return Tokenizer.train(CAPTIONS * 20, vocab_size=60)
    words = sorted({word for c in CAPTIONS for word in c.lower().replace(".", "").split()})
    return Tokenizer("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]).encode())


def mentions(
    tokenizer: Tokenizer,
    caption: str,
    *,
    names: Sequence[str] = NAMES,
    max_length: int | None = None,
) -> list[tuple[str, str]]:
    """The text up to each mark, and the class that is marked."""
    ids = tokenizer.encode(caption, max_length=max_length)
    marks = ClassMentions(names).marks(caption, ids, tokenizer)
    assert len(marks) == len(ids)
    return [
        (tokenizer.decode(ids[: position + 1]).lower(), names[mark])
        for position, mark in enumerate(marks)
        if mark != NO_CLASS
    ]


def test_names_in_singular_and_plural(tokenizer: Tokenizer) -> None:
    assert mentions(tokenizer, CAPTIONS[0]) == [
        ("two people", "person"),
        ("two people wait beside a fire truck", "fire truck"),
    ]
    found = mentions(tokenizer, CAPTIONS[1])
    assert [name for _, name in found] == ["bus", "bus", "truck", "box"]
    assert found[0][0] == "a bus"
    assert found[3][0].endswith("boxer and a box")


def test_captions_without_names(tokenizer: Tokenizer) -> None:
    assert mentions(tokenizer, CAPTIONS[2]) == []
    assert mentions(tokenizer, CAPTIONS[0], names=()) == []


def test_names_beyond_the_end_of_a_cut_caption(tokenizer: Tokenizer) -> None:
    length = len(tokenizer.encode("Two people wait"))
    assert [name for _, name in mentions(tokenizer, CAPTIONS[0], max_length=length)] == ["person"]


def test_pieces_that_go_beyond_a_name_are_not_marked() -> None:
    """A caption's tokens must begin with those of its beginning."""
    tokenizer = Tokenizer.train(["aab aab aab", "aac"] * 20, vocab_size=20)
    caption = "aab"
    assert ClassMentions(["aab"]).marks(caption, [1, 99, 2], tokenizer) == [NO_CLASS] * 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ball", "balls"),
        ("box", "boxes"),
        ("bench", "benches"),
        ("berry", "berries"),
        ("toy", "toys"),
        ("mouse", "mice"),
        ("wine glass", "wine glasses"),
    ],
)
def test_plural(name: str, expected: str) -> None:
    assert plural(name) == expected
