"""Mutations of bytes."""

from collections.abc import Callable
from random import Random
from typing import Any

MOST_CHANGES = 4
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Bytes = bytearray


def mutate_bytes(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Return changed bytes, and what was changed."""
    changed, what = Bytes(data), []
    for _ in range(rng.randint(1, MOST_CHANGES)):
        mutation = rng.choice(MUTATIONS)
        mutation(rng, changed)
        what.append(mutation.__name__.strip("_"))
    return bytes(changed), ", ".join(what)


def flip_bit(data: bytes, position: int, bit: int) -> bytes:
    """Return data with one bit changed."""
    changed = Bytes(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def _flip(rng: Random, data: Bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(rng: Random, data: Bytes) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _truncate(rng: Random, data: Bytes) -> None:
    del data[rng.randint(0, len(data)) :]


def _shorten(rng: Random, data: Bytes) -> None:
    del data[max(len(data) - rng.randint(1, 20), 0) :]


def _delete(rng: Random, data: Bytes) -> None:
    start, end = _range(rng, data)
    del data[start:end]


def _repeat(rng: Random, data: Bytes) -> None:
    start, end = _range(rng, data)
    data[start:start] = data[start:end] * rng.choice((1, 1, 2, 50))


def _clear(rng: Random, data: Bytes) -> None:
    start, end = _range(rng, data)
    data[start:end] = bytes([rng.choice((0, 0xFF, 0x20))]) * (end - start)


def _insert(rng: Random, data: Bytes) -> None:
    start, _ = _range(rng, data)
    data[start:start] = rng.randbytes(rng.choice((1, 4, 100)))


def _move(rng: Random, data: Bytes) -> None:
    start, end = _range(rng, data)
    target = rng.randint(0, len(data))
    data[target : target + end - start] = data[start:end]


def _number(rng: Random, data: Bytes) -> None:
    """Overwrite an integer of 1, 2, 4 or 8 bytes, as lengths and sizes are stored."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) >= size:
        number = rng.choice(NUMBERS) % 256**size
        start = rng.randint(0, len(data) - size)
        data[start : start + size] = number.to_bytes(size, rng.choice(("little", "big")))


def _head(rng: Random, data: Bytes) -> None:
    """Change one of the first bytes, where formats have their headers."""
    if data:
        data[rng.randrange(min(len(data), 64))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))


def _range(rng: Random, data: Bytes) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(start + rng.choice((1, 4, 16, 64, 512)), len(data))


MUTATIONS: tuple[Callable[[Random, Any], None], ...] = (
    *(_flip, _flip, _flip, _replace, _truncate, _shorten, _delete, _repeat),
    *(_clear, _insert, _move, _number, _number, _head, _head),
)
