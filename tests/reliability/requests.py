"""Requests of the web page by eight users who send anything and leave at any time."""

import io
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from yolor_d2.web.access import RateLimit

from ..saved_networks import save_network
from ..web.pages import MAX_UPLOAD, Client, ServedPage, serve
from .options import Options
from .soak import usage

CASES = ("requests",)
USERS = 8
ROWS = 4
WARM = 2  # rows before which memory may grow
GROWTH = 1.1
SIDE = 400
EXPECTED = {  # statuses by what is sent; 0: the user has left
    "picture": {200},
    "narrow picture": {200, 422},
    "no picture": {422},
    "too large": {413},
    "page": {200},
    "unknown address": {404},
    "left while sending": {0},
    "left while waiting": {0},
}


def run(case: str, options: Options) -> list[dict[str, Any]]:
    """A row for each quarter of the requests."""
    torch.set_num_threads(1)
    saved = save_network(options.folder / f"requests{time.time_ns()}")
    temporary = options.folder / "temporary"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    rows: list[dict[str, Any]] = []
    end = time.monotonic() + options.seconds
    with serve(saved, rate=RateLimit(10**9)) as page:
        for row in range(ROWS):
            if time.monotonic() > end:
                break
            answers = in_parallel(page, options.count // ROWS, f"{options.seed} {row}")
            rows.append(summary(answers) | usage() | {"temporary files": count_files(temporary)})
    warm, last = rows[min(WARM, len(rows)) - 1], rows[-1]
    grown = [
        name
        for name in (*usage(), "temporary files")
        if last[name] > warm[name] * (GROWTH if name == "memory (MB)" else 1)
    ]
    wrong = sum(row.pop("unexpected") for row in rows)
    last["result"] = ", ".join([*grown, *["unexpected answers"] * bool(wrong)]) or "ok"
    return rows


def count_files(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*"))


Answer = tuple[str, int, float]  # what was sent, status, seconds


def in_parallel(page: ServedPage, number: int, seed: str) -> list[Answer]:
    """Send requests from all users; returns the answers."""
    answers: list[Answer] = []

    def use(user: int) -> None:
        rng = random.Random(f"{seed} {user}")
        for _ in range(number // USERS):
            kind = rng.choice(list(EXPECTED))
            start = time.monotonic()
            status = send(page, kind, rng)
            answers.append((kind, status, time.monotonic() - start))

    users = [threading.Thread(target=use, args=(user,)) for user in range(USERS)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    time.sleep(1)  # pictures of users who have left are finished
    return answers


def send(page: ServedPage, kind: str, rng: random.Random) -> int:
    """Send a request; returns the status."""
    client = Client(page.port)
    leaving: dict[str, Callable[[bytes], bytes]] = {
        "left while sending": lambda content: content[: rng.randrange(len(content))],
        "left while waiting": lambda content: content,
    }
    if kind in leaving:
        leave(page.port, picture(rng), leaving[kind])
        return 0
    if kind == "page":
        return client.get(rng.choice(["/", "/card", "/page.js", "/examples/0"])).status
    if kind == "unknown address":
        return client.get(f"/{rng.random()}").status
    content = {
        "picture": picture,
        "narrow picture": lambda rng: picture(rng, width=1),
        "no picture": lambda rng: rng.randbytes(rng.randrange(100_000)),
        "too large": lambda rng: bytes(MAX_UPLOAD + rng.randrange(1, MAX_UPLOAD)),
    }[kind](rng)
    return client.predict(content, "x.jpg").status


def picture(rng: random.Random, width: int = 0) -> bytes:
    size = (rng.randint(1, SIDE), width or rng.randint(1, SIDE), 3)
    pixels = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, size, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=rng.choice(["JPEG", "PNG", "WEBP"]))
    return buffer.getvalue()


def leave(port: int, content: bytes, part: Callable[[bytes], bytes]) -> None:
    """Begin a request, send a part of its content and close the connection."""
    head = f"POST /predict?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + part(content))


def summary(answers: list[Answer]) -> dict[str, Any]:
    """The number of answers of each status, and the slowest answer."""
    statuses = Counter(status for _, status, _ in answers)
    texts = [f"{status or 'left'}: {number}" for status, number in sorted(statuses.items())]
    return {
        "requests": len(answers),
        "answers": ", ".join(texts),
        "slowest (s)": f"{max(seconds for *_, seconds in answers):.1f}",
        "unexpected": sum(status not in EXPECTED[kind] for kind, status, _ in answers),
    }
