"""A served web page, and users that send requests like a browser."""

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from yolor_d2 import Predictor
from yolor_d2.web.server import serving
from yolor_d2.web.session import LOWEST_SCORE, SharedPredictor

from ..saved_networks import Saved

MAX_UPLOAD = 1_000_000
MAX_PIXELS = 200_000


class CountingPredictor(Predictor):
    """Records the names of its inputs."""

    predicted: tuple[str, ...] = ()

    def predict(self, pictures: Any) -> Any:
        self.predicted += tuple(picture.name for picture in pictures)
        return super().predict(pictures)


class ServedPage(NamedTuple):
    """URL and predictor of a page."""

    url: str
    predictor: CountingPredictor


@contextmanager
def serve(saved: Saved) -> Iterator[ServedPage]:
    predictor = CountingPredictor(saved.path, device="cpu", score_threshold=LOWEST_SCORE)
    network = SharedPredictor(predictor, max_pixels=MAX_PIXELS)
    with serving(network, host="127.0.0.1", port=free_port(), max_upload=MAX_UPLOAD) as url:
        yield ServedPage(url, predictor)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class User:
    """A session of the page, without a browser.

    Args:
        url: URL of the page.
    """

    # Indices of the event handlers `Page.on_upload` and `Page.on_change`.
    UPLOAD, CHANGE = 0, 1

    def __init__(self, url: str) -> None:
        import httpx  # comes with Gradio

        self.http = httpx.Client(base_url=url, timeout=120, trust_env=False)
        self.session = secrets.token_hex(6)

    def upload(self, path: Path) -> Any:
        """Upload a file; returns the response."""
        with path.open("rb") as file:
            return self.http.post("gradio_api/upload", files={"files": (path.name, file)})

    def predict(self, path: Path, layers: tuple[str, ...] = ("boxes",)) -> dict[str, Any]:
        """Upload a file; returns what the page shows."""
        (place,) = self.upload(path).json()
        return self.predict_place(place, layers)

    def predict_place(self, place: str, layers: tuple[str, ...] = ("boxes",)) -> dict[str, Any]:
        """Predict on a path on the server; returns what the page shows."""
        meta = {"_type": "gradio.FileData"}
        outputs = self._call(
            self.UPLOAD, {"path": place, "meta": meta}, list(layers), 0.5, 0.25, 0.5
        )
        names = ("upload", "state", "note", "caption", "picture", "times", "jpeg", "json")
        return dict(zip(names, outputs, strict=True))

    def change(self, layers: tuple[str, ...], opacity: float = 0.5) -> dict[str, Any]:
        """Change the layers; returns what the page shows."""
        outputs = self._call(self.CHANGE, None, list(layers), opacity, 0.25, 0.5)
        return dict(zip(("picture", "times", "jpeg", "json"), outputs, strict=True))

    def fetch(self, file: dict[str, Any]) -> bytes:
        """Download the file of a picture or button."""
        return self.http.get(file["url"]).raise_for_status().content

    def _call(self, function: int, *data: Any) -> list[Any]:
        """Join the queue, and wait for the result."""
        call = {"data": data, "fn_index": function, "session_hash": self.session}
        self.http.post("gradio_api/queue/join", json=call).raise_for_status()
        params = {"session_hash": self.session}
        with self.http.stream("GET", "gradio_api/queue/data", params=params) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(message["output"]["error"])
                    return message["output"]["data"]
        raise RuntimeError("the queue ended")
