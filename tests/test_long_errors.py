"""Messages of errors in one line."""

from yolor_d2.errors import LONGEST, message_of


def test_long_values_are_shortened_in_the_middle() -> None:
    message = message_of(ValueError(f"a.json: has {'5' * 10_000}, in KEY"))
    assert len(message) < LONGEST + 10
    assert message.startswith("a.json: has 5")
    assert message.endswith("5, in KEY")


def test_lines_become_one() -> None:
    assert message_of(ValueError("a:\n  b\n")) == "a: b"
