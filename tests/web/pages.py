"""A served web page, and programs that send requests to it."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import quote

from yolor_d2 import Predictor
from yolor_d2.web.access import LOOPBACK, Access, RateLimit
from yolor_d2.web.card import network_card
from yolor_d2.web.examples import find_examples
from yolor_d2.web.handler import Site
from yolor_d2.web.prediction_queue import LOWEST_SCORE, PredictionQueue
from yolor_d2.web.server import serving

from ..saved_networks import Saved

MAX_UPLOAD = 1_000_000
MAX_PIXELS = 200_000


class CountingPredictor(Predictor):
    """Records the names of its inputs, and waits while it may not predict."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.predicted: tuple[str, ...] = ()
        self.may_predict = Event()
        self.may_predict.set()

    def predict(self, pictures: Any) -> Any:
        self.predicted += tuple(picture.name for picture in pictures)
        self.may_predict.wait(60)
        return super().predict(pictures)


class ServedPage(NamedTuple):
    """Port and predictor of a page."""

    port: int
    predictor: CountingPredictor

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def serve(saved: Saved, *, token: str = "", **settings: Any) -> Iterator[ServedPage]:
    """Serve the page of a network; `settings` are more fields of `Site`."""
    predictor = CountingPredictor(saved.path, device="cpu", score_threshold=LOWEST_SCORE)
    fields = {
        "queue": PredictionQueue(predictor, max_pixels=MAX_PIXELS),
        "access": Access(None if token else LOOPBACK, token),
        "rate": RateLimit(1000),
        "max_upload": MAX_UPLOAD,
        "card": network_card(predictor, "toy/model.pth"),
        "examples": find_examples(saved.images[0].parent, max_bytes=MAX_UPLOAD),
    }
    port = free_port()
    with serving(Site(**(fields | settings)), host="127.0.0.1", port=port):
        yield ServedPage(port, predictor)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Answer(NamedTuple):
    """The server's answer to a request."""

    status: int
    headers: Any
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """A program that uses the page.

    Args:
        port: port of the page on this machine.
        headers: sent with every request.
    """

    def __init__(self, port: int, **headers: str) -> None:
        self.port = port
        self.headers = headers

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {k.replace("_", "-"): v for k, v in (self.headers | headers).items()}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def predict(self, content: bytes | Path, name: str = "", **headers: str) -> Answer:
        if isinstance(content, Path):
            content, name = content.read_bytes(), name or content.name
        return self.request("POST", f"/predict?name={quote(name)}", content, **headers)
