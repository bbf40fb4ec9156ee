"""Responses and refusals of the served page over HTTP."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from yolor_d2.errors import OptionError
from yolor_d2.web import server as web_server
from yolor_d2.web.access import HEADERS, RateLimit
from yolor_d2.web.prediction_queue import BusyError

from ..saved_networks import Saved
from .pages import MAX_UPLOAD, Client, ServedPage, free_port, serve


@pytest.fixture
def client(page: ServedPage) -> Client:
    return Client(page.port)


def test_a_picture(page: ServedPage, client: Client, saved: Saved) -> None:
    answer = client.predict(saved.images[0])
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    truth = page.predictor(str(saved.images[0])).to_json()
    assert answer.json["prediction"] == truth | {"file_name": saved.images[0].name}


def test_several_users_at_once(page: ServedPage, client: Client, saved: Saved) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(client.predict, saved.images[:4]))
    for answer, image in zip(answers, saved.images, strict=False):
        found = answer.json["prediction"]
        assert found["file_name"] == image.name
        assert found["caption"] == page.predictor(str(image)).caption


@pytest.mark.parametrize("name", ["text.jpg", "model.pth", "page.html"])
def test_files_that_are_not_pictures_give_one_line(
    name: str, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / name
    if name == "model.pth":
        torch.save({"model": {}}, path)
    else:
        path.write_bytes(b"<script>alert(1)</script>" * 9)
    answer = client.predict(path)
    assert answer.status == 422
    assert answer.json["error"].startswith("This file is not a supported picture")
    assert answer.json["code"] == "WEB"


def test_large_pictures(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6250), (90, 120, 30)).save(tmp_path / "large.jpg", quality=30)
    found = client.predict(tmp_path / "large.jpg").json["prediction"]
    assert found["scaled_from"] == {"width": 8000, "height": 6250}
    assert (found["width"], found["height"]) == (505, 395)
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    assert "too large, 12000 x 12000" in client.predict(tmp_path / "bomb.png").json["error"]


def test_a_failing_network_is_not_explained(
    page: ServedPage, client: Client, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pictures: Any) -> Any:
        raise RuntimeError("secrets of the server")

    monkeypatch.setattr(page.predictor, "predict", fail)
    answer = client.predict(saved.images[0])
    assert answer.status == 500
    assert b"secrets" not in answer.content


# Sizes, rates, times and queues


def test_uploads_are_limited(page: ServedPage, client: Client) -> None:
    count = len(page.predictor.predicted)
    for size in (MAX_UPLOAD + 1, 20 * MAX_UPLOAD):
        answer = client.predict(bytes(size), "heavy.jpg")
        assert answer.status == 413
        assert answer.json["error"] == f"This file has {size / 1e6:.1f} MB; the limit is 1 MB."
    lengths = ("", "-1", "1e3", "+5", "９", str(10**30))  # noqa: RUF001
    for length in lengths:
        given = length.encode().decode("latin-1")
        assert raw(page, f"POST /predict HTTP/1.1\r\nContent-Length: {given}") in (411, 413)
    assert raw(page, "POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked") == 411
    smuggled = "POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"
    assert raw(page, smuggled) == 411
    assert len(page.predictor.predicted) == count


def raw(page: ServedPage, head: str, *, host: str = "localhost") -> int:
    """Status of the answer to a request whose body never comes."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall(f"{head}\r\nHost: {host}\r\n\r\n".encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return int(answer.split()[1]) if answer else 0


def test_the_rate_is_limited(saved: Saved) -> None:
    with serve(saved, rate=RateLimit(2)) as page:
        client = Client(page.port)
        assert [client.predict(b"x").status for _ in range(3)] == [422, 422, 429]
        answer = client.predict(b"x")
        assert answer.json["error"].startswith("At most 2 pictures a minute are allowed; try again")
        assert client.get("/").status == 200


def test_slow_requests_are_cut(saved: Saved) -> None:
    """Also those that send a byte now and then."""
    with (
        serve(saved, seconds=0.5) as page,
        socket.create_connection(("127.0.0.1", page.port), timeout=30) as connection,
    ):
        start = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        try:
            while time.monotonic() - start < 20:
                connection.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - start < 10


def test_connections_are_limited(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 3)
    with serve(saved) as page:
        address = ("127.0.0.1", page.port)
        idle = [socket.create_connection(address, timeout=30) for _ in range(3)]
        with socket.create_connection(address, timeout=30) as connection:
            assert connection.recv(1) == b""  # closed at once
        for connection in idle:
            connection.close()
        deadline = time.monotonic() + 30
        while status(page) != 200:
            assert time.monotonic() < deadline


def status(page: ServedPage) -> int:
    """Of the page; 0 if the connection is closed before the request is sent."""
    try:
        return raw(page, "GET / HTTP/1.1")
    except OSError:
        return 0


def test_a_full_queue_is_an_answer(
    page: ServedPage, client: Client, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, content: bytes, name: str) -> Any:
        raise BusyError("Too many pictures are waiting.")

    monkeypatch.setattr("yolor_d2.web.prediction_queue.PredictionQueue.predict", refuse)
    answer = client.predict(saved.images[0])
    assert (answer.status, answer.json["error"]) == (503, "Too many pictures are waiting.")


# What is served, and to whom


def test_only_known_addresses_are_served(client: Client, saved: Saved) -> None:
    for path in ("/", "/page.js", "/style.css", "/card", "/icon.svg", "/examples/0/thumbnail"):
        assert client.get(path).status == 200
    assert client.get("/examples/1").content == saved.images[1].read_bytes()
    paths = ["/etc/passwd", "/../server.py", "/static/page.js", "/page.html", "/examples/99"]
    paths += ["/examples/..%2f..%2fetc%2fpasswd", "/examples/0/../../x", "/%2e%2e/server.py"]
    paths += ["//evil.example/", "/examples/-1", "/examples/1.5", "/predict", "/examples/"]
    for path in paths:
        assert client.get(path).status == 404, path
    assert client.request("POST", "/", b"").status == 404
    assert client.request("DELETE", "/").status == 501


def test_every_answer_has_the_security_headers(client: Client, saved: Saved) -> None:
    answers = [client.get("/"), client.get("/none"), client.request("PUT", "/")]
    answers += [client.predict(saved.images[0]), client.get("/", Host="evil.example")]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "Python" not in answer.headers["Server"]
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_other_sites_are_refused(page: ServedPage, client: Client, saved: Saved) -> None:
    count = len(page.predictor.predicted)
    assert client.predict(saved.images[0], Origin="http://evil.example").status == 403
    assert client.predict(saved.images[0], Host="evil.example").status == 400
    assert client.get("/card", Sec_Fetch_Site="cross-site").status == 403
    assert raw(page, "GET /card HTTP/1.1", host="evil.example") == 400
    assert raw(page, "GET /card") == 0  # HTTP/0.9: its answers have no headers
    assert len(page.predictor.predicted) == count


def test_requests_that_are_not_http_get_headers_too(page: ServedPage) -> None:
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall(b"one two three four\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"\r\nContent-Security-Policy: " in answer


def test_without_the_token_nothing_is_served(saved: Saved) -> None:
    with serve(saved, token="secret") as page:
        stranger = Client(page.port)
        for path in ("/", "/page.js", "/card", "/examples/0", "/?token=", "/?token=wrong"):
            assert stranger.get(path).status == 401, path
        assert stranger.predict(saved.images[0]).status == 401
        assert page.predictor.predicted == ()
        entered = stranger.get("/?token=secret")
        assert (entered.status, entered.headers["Location"]) == (303, "/")
        cookie = entered.headers["Set-Cookie"]
        assert "HttpOnly; SameSite=Lax" in cookie
        user = Client(page.port, Cookie=cookie.split(";")[0])
        assert user.get("/card").status == 200
        program = Client(page.port, Authorization="Bearer secret")
        assert program.predict(saved.images[0]).status == 200
        assert user.predict(saved.images[0], Origin="http://evil.example").status == 403


def test_the_command_serves_until_sigterm(saved: Saved, tmp_path: Path) -> None:
    port = str(free_port())
    command = [sys.executable, "-W", "ignore", "-m", "yolor_d2.tools.web", "--port", port]
    command += ["--weights", str(saved.path), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == f"The page is at http://127.0.0.1:{port}/; Ctrl-C stops the server\n"
        assert Client(int(port)).predict(saved.images[0]).status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_port_that_is_taken_is_one_line(page: ServedPage, saved: Saved) -> None:
    error = rf"^port {page.port} of 127.0.0.1 cannot be used: Address already in use$"
    with pytest.raises(OptionError, match=error):
        web_server.Server(None, host="127.0.0.1", port=page.port)


def test_nothing_is_written(
    client: Client, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the current folder nor as temporary files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("x.jpg", "../../x.jpg", "/etc/x.jpg"):
        assert client.predict(saved.images[0].read_bytes(), name).status == 200
        assert client.predict(b"no picture", name).status == 422
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_not_kept(client: Client, saved: Saved) -> None:
    """Nothing can be fetched afterwards: an answer goes to who asked."""
    name = saved.images[0].name
    content = client.predict(saved.images[0]).content
    assert name in json.loads(content)["prediction"]["file_name"]
    for path in (f"/{name}", f"/predict/{name}", f"/predict?name={name}"):
        assert client.get(path).status == 404
