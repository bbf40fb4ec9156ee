"""Mutations of JSON-like structures, and of texts of words and numbers."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from .byte_mutators import mutate_bytes

MOST_CHANGES = 3
DEEP = 100_000  # levels of nesting
LARGE = 10**300  # larger integers cannot be multiplied with a float
NUMBERS = (
    *(0, -1, 1, 2, 0.5, -0.5, 255, 256, 2**31 - 1, 2**31, -(2**31), 2**63, 10**400, 10**9, 1e6),
    *(1e308, -1e308, 1e-300, float("nan"), float("inf"), float("-inf")),
)
OTHERS = (
    *(
        None,
        True,
        False,
        "",
        " ",
        "x",
        "0",
        "1e999",
        "nan",
        "\0",
        "\ud800",
        "../../x",
        "/etc/passwd",
    ),
    *("a/../b", "x" * 5000, "\u202e", "a\nb", [], {}, [[]], [None], {"": 1}, [[1, 2], [3]]),
)


def mutate_tree(rng: Random, tree: Any) -> tuple[Any, str]:
    """Return a changed copy of a structure of dictionaries and lists, and what was changed."""
    holder, what = [copy.deepcopy(tree)], []
    for _ in range(rng.choice((1, 1, 1, 2, MOST_CHANGES))):
        places = list(_places(holder))
        parent, key = rng.choice(places)
        mutation = rng.choice(MUTATIONS)
        mutation(rng, parent, key, places)
        what.append(f"{mutation.__name__.strip('_')} of {key}")
    return holder[0], ", ".join(what)


def hostile(rng: Random) -> Any:
    """Return a value that readers do not expect."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(NUMBERS)
    if kind < 0.97:
        return copy.deepcopy(rng.choice(OTHERS))
    return [rng.choice((1, 2.5, 1e9, -7))] * rng.choice((7, 1000, 100_000))


def dump(rng: Random, tree: Any) -> tuple[bytes, str]:
    """Return a structure as JSON, which is sometimes damaged, and what was done to it."""
    text = json.dumps(tree, indent=rng.choice((None, None, 1)))
    kind = rng.random()
    if kind < 0.8:
        return text.encode(), "as JSON"
    if kind < 0.9:
        data, what = mutate_bytes(rng, text.encode())
        return data, f"bytes: {what}"
    damage = rng.choice(DAMAGES)
    return damage(rng, text), damage.__name__.strip("_")


def mutate_text(rng: Random, text: str) -> tuple[bytes, str]:
    """Return a changed text of words and numbers, and what was changed."""
    if rng.random() < 0.25:
        return mutate_bytes(rng, text.encode())
    words = re.findall(r"[\w.+-]+|[^\w.+-]", text)
    what = []
    for _ in range(rng.choice((1, 1, 2, MOST_CHANGES))):
        place = rng.randrange(len(words)) if words else 0
        kind = rng.choice(("replace", "replace", "delete", "repeat", "swap"))
        what.append(f"{kind} {words[place][:20]!r}" if words else kind)
        if kind == "replace":
            words[place : place + 1] = [_word(rng)]
        elif kind == "delete":
            del words[place : place + 1]
        elif kind == "repeat":
            words[place:place] = words[place : place + 1] * rng.choice((1, 3, 2000))
        elif words:
            other = rng.randrange(len(words))
            words[place], words[other] = words[other], words[place]
    return "".join(words).encode(errors="surrogatepass"), ", ".join(what)


def _word(rng: Random) -> str:
    value = hostile(rng)
    return value if isinstance(value, str) else str(value)[:5000]


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of each value."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in entries:
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _replace(rng: Random, parent: Any, key: Any, places: Any) -> None:
    parent[key] = hostile(rng)


def _remove(rng: Random, parent: Any, key: Any, places: Any) -> None:
    if key in parent if isinstance(parent, dict) else key < len(parent):
        del parent[key]
    if not parent:
        _extend(rng, parent)


def _double(rng: Random, parent: Any, key: Any, places: Any) -> None:
    if isinstance(parent, list):
        parent.insert(rng.randint(0, len(parent)), copy.deepcopy(parent[key]))
    else:
        parent[f"{key}{rng.choice(('', 's', ' '))}"] = copy.deepcopy(parent[key])


def _swap(rng: Random, parent: Any, key: Any, places: Any) -> None:
    """Replace a value by a copy of another one, often of another type."""
    other, other_key = rng.choice(places)
    parent[key] = copy.deepcopy(other[other_key])


def _scale(rng: Random, parent: Any, key: Any, places: Any) -> None:
    """Change a number; other values are put into a list."""
    value = parent[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        factor = rng.choice((-1, 0.5, 1e-3, 10, 1e5, 1e12))
        scaled = value * factor if abs(value) < LARGE else value
        parent[key] = rng.choice((scaled, value + 1, value - 1, str(value), [value]))
    else:
        parent[key] = [value]


def _extend(rng: Random, parent: Any, *unused: Any) -> None:
    if isinstance(parent, list):
        parent.append(hostile(rng))
    else:
        parent[rng.choice(("id", "x", ""))] = hostile(rng)


def _deepen(rng: Random, text: str) -> bytes:
    start, end = rng.choice((("[", "]"), ('{"a":', "}")))
    return (text.rstrip("}") + ', "z": ' + start * DEEP + "1" + end * DEEP + "}").encode()


def _encode(rng: Random, text: str) -> bytes:
    return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le")), "replace")


def _cut(rng: Random, text: str) -> bytes:
    return text.encode()[: rng.randint(0, len(text))]


def _double_key(rng: Random, text: str) -> bytes:
    keys = re.findall(r'"\w+":', text) or ['"a":']
    return text.replace("{", "{" + rng.choice(keys) + " 1, ", 1).encode()


def _append(rng: Random, text: str) -> bytes:
    return text.encode() + rng.choice((b"}", b"\0", b"\xff", b"{}", b"," * 100))


MUTATIONS: tuple[Callable[..., None], ...] = (
    *(_replace, _replace, _replace, _remove, _double, _swap, _scale, _scale, _extend),
)
DAMAGES = (_deepen, _encode, _cut, _double_key, _append)
