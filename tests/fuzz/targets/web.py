"""Requests to the web page, answered by its server over a pair of sockets."""

import io
import json
import socket
import threading
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from random import Random
from typing import Any, NamedTuple

from yolor_d2.web.access import HEADERS, Access, RateLimit
from yolor_d2.web.handler import Site
from yolor_d2.web.prediction_queue import PredictionQueue
from yolor_d2.web.server import Server

from ..byte_mutators import mutate_bytes
from ..cases import Case, Target
from ..corpus import pictures
from ..tree_mutators import hostile

MAX_UPLOAD, MAX_PIXELS = 100_000, 4000
ADDRESS = ("127.0.0.1", 1)
EXPECTED = {200, 303, 400, 403, 404, 411, 413, 414, 422, 431, 501, 505}
PATHS = (
    *("/", "/card", "/predict", "/predict?name=a.png", "/page.js", "/examples/0", "/?token=x"),
    *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/examples/../x", "*"),
    *(
        "/examples/-1",
        "/examples/999",
        "/examples/\u0663",
        "http://localhost/card",
        "//[::1",
        "/\0",
    ),
    *("/" + "a" * 70_000, "/card?" + "a=1&" * 5000, "/predict?name=" + "%00%0a%ff" * 50, "", "/ /"),
)
METHODS = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "", "get", "G\0T")
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9", "HTTP/1.1.1", "HTTP/-1.1", "")
NAMES = (
    *("Host", "Content-Length", "Transfer-Encoding", "Origin", "Cookie", "Authorization"),
    *("Content-Type", "Sec-Fetch-Site", "Expect", "Connection", "X" * 300, "", "Bad Name"),
)
VALUES = (
    *("localhost", "evil.example", "[::1", "chunked", "http://evil.example", "-1", "5", "1e3"),
    *("99999999999999999", "0x10", "+5", "5, 5", "Bearer x", 'yolor_d2_token="', "100-continue"),
    *("a" * 70_000, "\xff\xfe", "\r\n folded", "multipart/form-data; boundary=", "null", ""),
)


class Prediction:
    """What a network returns for a picture."""

    def __init__(self, picture: Any) -> None:
        self.picture = picture

    def to_json(self) -> dict[str, Any]:
        height, width = self.picture.pixels.shape[:2]
        return {"file_name": self.picture.name, "width": width, "height": height}


class Network:
    """Stands for a predictor."""

    def predict(self, found: Any) -> list[Prediction]:
        return [Prediction(picture) for picture in found]


class State(NamedTuple):
    server: Server
    files: dict[str, bytes]


def prepare() -> State:
    network: Any = Network()
    site = Site(
        queue=PredictionQueue(network, max_pixels=MAX_PIXELS),
        access=Access(),
        rate=RateLimit(10**9),
        max_upload=MAX_UPLOAD,
        card={"name": "network"},
        seconds=2.0,
    )
    return State(Server(site, host="127.0.0.1", port=0), pictures())


def mutate(rng: Random, index: int, state: State) -> Case:
    """Make a request with unusual parts."""
    name = rng.choice(sorted(state.files))
    body, what = state.files[name], name
    if rng.random() < 0.4:
        body, what = mutate_bytes(rng, body)
    if rng.random() < 0.02:
        body = b"x" * rng.choice((MAX_UPLOAD, MAX_UPLOAD + 1, 3 * MAX_UPLOAD))
    headers = [("Host", "localhost"), ("Content-Length", str(len(body)))]
    line = ["POST", f"/predict?name={name}", "HTTP/1.1"]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        what += f", {_change_head(rng, line, headers)}"
    if rng.random() < 0.1:
        body, content_type = _form(rng, body)
        headers.append(("Content-Type", content_type))
    end = rng.choice(("\r\n", "\r\n", "\r\n", "\n"))
    lines = [" ".join(line), *(f"{key}: {value}" for key, value in headers), "", ""]
    request = end.join(lines).encode("utf-8", "surrogatepass") + body
    if rng.random() < 0.2:
        request, more = mutate_bytes(rng, request)
        what += f", request: {more}"
    return Case({"request": request}, None, what, places=("request",))


def _change_head(rng: Random, line: list[str], headers: list[tuple[str, str]]) -> str:
    """Change the request line or the headers, in place; returns what was changed."""
    part = rng.choice(("method", "path", "version", "header", "header", "header", "drop", "many"))
    if part in ("method", "path", "version"):
        place = ("method", "path", "version").index(part)
        line[place] = rng.choice((METHODS, PATHS, VERSIONS)[place])
    elif part == "header":
        value = str(hostile(rng))[:1000] if rng.random() < 0.3 else rng.choice(VALUES)
        headers.insert(rng.randrange(len(headers) + 1), (rng.choice(NAMES), value))
    elif part == "drop" and headers:
        del headers[rng.randrange(len(headers))]
    else:
        headers += [(f"X-{k}", "1") for k in range(rng.choice((10, 99, 200)))]
    return part


def _form(rng: Random, body: bytes) -> tuple[bytes, str]:
    """Return a picture as browsers send forms, which the page does not take."""
    mark = rng.choice(("x", "", "a" * 200))
    head = f'--{mark}\r\nContent-Disposition: form-data; name="f"; filename="../../x"\r\n\r\n'
    end = f"\r\n--{mark}--" if rng.random() < 0.5 else ""
    return head.encode() + body + end.encode(), f"multipart/form-data; boundary={mark}"


def run(state: State, case: Case) -> int | None:
    """Send the request, and check the answer."""
    answer = exchange(state.server, case.files["request"])
    if not answer:
        raise ValueError("request: no answer, as it is not HTTP or its sender left")
    response = parse(answer)
    body = response.read()
    assert response.status in EXPECTED, f"status {response.status}"
    for name, value in HEADERS.items():
        assert response.headers.get(name) == value, f"the answer lacks {name}"
    assert int(response.headers["Content-Length"]) == len(body), "another length"
    assert response.fp is None or not response.fp.read(), "there is more than one answer"
    assert b"root:" not in body, "the answer has a file of the system"
    if response.status >= 400:
        reason = json.loads(body)["error"]
        raise ValueError(f"request: {response.status}: {reason}")
    if case.files["request"].startswith(b"POST"):
        found = json.loads(body)["prediction"]
        assert found["width"] * found["height"] <= MAX_PIXELS
        assert not set(found["file_name"]) & set("/\0\n"), "the name has a folder"
    return None


def exchange(server: Server, request: bytes) -> bytes:
    """Return the answer of the server to a request, whose sender then leaves."""
    near, far = socket.socketpair()
    near.settimeout(10)
    sender = threading.Thread(target=_send, args=(near, request), daemon=True)
    sender.start()
    try:
        server.finish_request(far, ADDRESS)
    except Exception:
        server.handle_error(far, ADDRESS)  # prints what is not the fault of the sender
    far.close()
    answer = bytearray()
    with near, suppress(ConnectionError):
        while part := near.recv(1 << 16):
            answer += part
        sender.join()
    return bytes(answer)


def _send(near: socket.socket, request: bytes) -> None:
    with suppress(OSError):
        near.sendall(request)
        near.shutdown(socket.SHUT_WR)


class _Answered:
    """What HTTPResponse needs of a socket."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, *unused: Any) -> io.BytesIO:
        return io.BytesIO(self._answer)


def parse(answer: bytes) -> HTTPResponse:
    """Parse an answer with Python's client."""
    source: Any = _Answered(answer)
    response = HTTPResponse(source)
    try:
        response.begin()
    except HTTPException as error:
        raise AssertionError(f"the answer is not HTTP: {answer[:80]!r}") from error
    return response


WEB = Target(
    about="HTTP requests; right: one answer with all headers, and JSON with a reason",
    prepare=prepare,
    mutate=mutate,
    run=run,
)
