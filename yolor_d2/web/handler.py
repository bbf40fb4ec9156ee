"""Requests of the web page: a fixed list of addresses, and pictures to predict on.

No address is a path on the disk: files are read at the start, and examples have numbers.
"""

import io
import json
import logging
import math
import re
import socket
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from ..errors import WebError
from .access import COOKIE, HEADERS, Access, RateLimit, query_value
from .examples import Example
from .prediction_queue import BusyError, PredictionQueue
from .uploads import BadUploadError

MAX_NAME = 200  # characters

logger = logging.getLogger(__name__)

Json = dict[str, Any]

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_EXAMPLE = re.compile(r"/examples/(\d{1,3})(/thumbnail)?")


def _static_files() -> dict[str, tuple[str, bytes]]:
    """Return type and content of the page's files by address."""
    folder = files(__package__) / "static"
    return {
        "/" if file.name == "page.html" else f"/{file.name}": (
            _TYPES[PurePosixPath(file.name).suffix],
            file.read_bytes(),
        )
        for file in folder.iterdir()
    }


@dataclass(frozen=True)
class Site:
    """What the page serves.

    Attributes:
        queue: predicts on uploaded pictures.
        access: rules about requests.
        rate: pictures per minute.
        max_upload: largest upload in bytes.
        card: what the page tells about the network.
        examples: pictures to try.
        seconds: longest time of receiving a request.
    """

    queue: PredictionQueue
    access: Access
    rate: RateLimit
    max_upload: int
    card: Json
    examples: list[Example] = field(default_factory=list)
    seconds: float = 60.0
    static: dict[str, tuple[str, bytes]] = field(default_factory=_static_files)


class Handler(BaseHTTPRequestHandler):
    """Answers one request of a connection."""

    site: Site  # of the server's subclass
    server_version, sys_version = "yolor_d2", ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.site.seconds)
        self.rfile = io.BufferedReader(_InTime(self.connection, self.site.seconds))

    def parse_request(self) -> bool:
        """Ignore HTTP/0.9, whose answers have no headers."""
        return super().parse_request() and self.request_version != "HTTP/0.9"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        token = query_value(address.query, "token")
        if address.path == "/" and token and self.site.access.is_token(token):
            self._set_cookie()
        elif self._is_allowed(is_page=address.path == "/"):
            self._get(address.path)

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        if not self._is_allowed() or not self._is_wanted(address.path):
            self._drain()
            return
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if len(content) == int(self.headers["Content-Length"]):  # else the sender left
            self._predict(content, file_name(query_value(address.query, "name")))

    def _get(self, path: str) -> None:
        example = _EXAMPLE.fullmatch(path)
        if path in self.site.static:
            self._answer(200, *self.site.static[path])
        elif path == "/card":
            names = [each.name for each in self.site.examples]
            limits = {"max_upload": self.site.max_upload, "examples": names}
            self._answer_json(200, self.site.card | limits)
        elif example and int(example[1]) < len(self.site.examples):
            found = self.site.examples[int(example[1])]
            if example[2]:
                self._answer(200, "image/jpeg", found.thumbnail)
            else:
                self._answer(200, "application/octet-stream", found.path.read_bytes())
        else:
            self._refuse(404, "There is no such page.")

    def _predict(self, content: bytes, name: str) -> None:
        try:
            answer = self.site.queue.predict(content, name)
            body = json.dumps(answer, allow_nan=False).encode()
        except BadUploadError as error:
            self._refuse(422, str(error))
        except BusyError as error:
            self._refuse(503, str(error))
        except Exception:
            logger.exception("Prediction failed")
            self._refuse(500, "Prediction failed on this picture; see the log of the server.")
        else:
            self._answer(200, "application/json", body)

    def _is_allowed(self, *, is_page: bool = False) -> bool:
        refusal = self.site.access.refusal(self.headers, is_page=is_page)
        if refusal:
            self._refuse(*refusal)
        return refusal is None

    def _is_wanted(self, path: str) -> bool:
        """Whether a picture can be received; if not, the request is refused."""
        length, limit = self.headers.get("Content-Length") or "", self.site.max_upload
        if path != "/predict":
            self._refuse(404, "There is no such page.")
        elif not re.fullmatch(r"\d{1,15}", length) or "Transfer-Encoding" in self.headers:
            self._refuse(411, "The request must have a Content-Length.")
        elif int(length) > limit:
            size = f"{int(length) / 1e6:.1f} MB; the limit is {limit / 1e6:g} MB"
            self._refuse(413, f"This file has {size}.")
        elif wait := self.site.rate.seconds_to_wait(self.client_address[0]):
            number = f"At most {self.site.rate.per_minute} pictures a minute are allowed"
            self._refuse(429, f"{number}; try again in {math.ceil(wait)} seconds.")
        else:
            return True
        return False

    def _drain(self) -> None:
        """Read a refused body until the deadline: a sender that is cut off sees no answer."""
        self.connection.shutdown(socket.SHUT_WR)
        while self.rfile.read(1 << 16):
            pass

    def _set_cookie(self) -> None:
        """Keep the token in a cookie, and remove it from the address."""
        self.send_response(303)
        self.send_header("Location", "/")
        cookie = f"{COOKIE}={self.site.access.token}; HttpOnly; SameSite=Lax; Path=/"
        self.send_header("Set-Cookie", cookie)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer_json(self, status: int, content: Json) -> None:
        self._answer(status, "application/json", json.dumps(content).encode())

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, reason: str) -> None:
        self._answer_json(status, {"error": reason, "code": WebError.code})

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not HTTP, or has another method."""
        self.close_connection = True
        self.request_version = "HTTP/1.0"  # answers to requests without a version have no headers
        self._refuse(code, "This request is not supported.")

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


class _InTime(io.RawIOBase):
    """Reads from a connection until a deadline, however slowly its bytes come."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(remaining)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._seconds)


def file_name(text: str) -> str:
    """Return the name of an uploaded file without folders and control characters."""
    name = PurePosixPath(PureWindowsPath(text).name).name
    printable = "".join(letter for letter in name if letter.isprintable())
    return printable.lstrip(".")[:MAX_NAME] or "picture"
