"""Responses and refusals of the served page over HTTP."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from yolor_d2.web import guard as web_guard
from yolor_d2.web.session import DisplayOptions, SharedPredictor, encode_json

from ..saved_networks import Saved
from .pages import MAX_UPLOAD, ServedPage, User, free_port


@pytest.fixture
def user(page: ServedPage) -> User:
    return User(page.url)


def test_a_picture(page: ServedPage, user: User, saved: Saved) -> None:
    shown = user.predict(saved.images[0], ("boxes", "labels", "caption"))
    assert shown["note"] == "160 x 120 pixels"
    assert shown["upload"] is None  # ready for the next upload
    assert "network " in shown["times"]
    truth = page.predictor(str(saved.images[0]))
    assert shown["caption"] == truth.caption
    content = json.loads(user.fetch(shown["json"]["value"]))
    kept = truth.instances[truth.instances.scores >= 0.25]
    assert len(content["instances"]) == len(kept)
    assert content["file_name"] == saved.images[0].name
    picture = user.fetch(shown["picture"])
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape[0] > 360
    assert user.fetch(shown["jpeg"]["value"]) == picture


def test_changes_run_no_prediction(page: ServedPage, user: User, saved: Saved) -> None:
    pictures = [user.fetch(user.predict(saved.images[1])["picture"])]
    count = len(page.predictor.predicted)
    for layers, opacity in (((), 0.5), (("masks",), 0.5), (("masks",), 0.9)):
        pictures.append(user.fetch(user.change(layers, opacity)["picture"]))
    assert len(set(pictures)) == 4
    assert len(page.predictor.predicted) == count


def test_several_users_at_once(page: ServedPage, saved: Saved) -> None:
    users = [User(page.url) for _ in range(4)]

    def use(user: User, image: Path) -> tuple[str, dict[str, Any]]:
        caption = user.predict(image)["caption"]
        toggled = user.change(("masks", "caption"))
        return caption, json.loads(user.fetch(toggled["json"]["value"]))

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(use, users, saved.images))
    for (caption, content), image in zip(answers, saved.images, strict=False):
        assert content["file_name"] == image.name
        assert caption == content["caption"] == page.predictor(str(image)).caption


@pytest.mark.parametrize("name", ["text.jpg", "model.pth", "noise.png", "page.html"])
def test_files_that_are_not_pictures_give_one_line(name: str, user: User, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "model.pth":
        torch.save({"model": {}}, path)
    else:
        path.write_bytes(b"<script>alert(1)</script>" * 9)
    shown = user.predict(path)
    assert shown["note"].startswith("**This file is not a supported picture")
    assert shown["picture"] is None
    assert user.change(("boxes",)).keys()  # nothing to draw is not an error


def test_large_pictures(user: User, tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6250), (90, 120, 30)).save(tmp_path / "large.jpg", quality=30)
    note = user.predict(tmp_path / "large.jpg")["note"]
    assert note == "Scaled down from 8000 x 6250 to 505 x 395 pixels."
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    assert "too large, 12000 x 12000" in user.predict(tmp_path / "bomb.png")["note"]
    (tmp_path / "heavy.jpg").write_bytes(bytes(MAX_UPLOAD + 1))
    assert user.upload(tmp_path / "heavy.jpg").status_code == 413
    (tmp_path / "heavier.jpg").write_bytes(bytes(MAX_UPLOAD * 2))
    assert user.upload(tmp_path / "heavier.jpg").status_code == 413


def test_files_of_the_server(page: ServedPage, user: User, saved: Saved) -> None:
    """Files outside the upload folder are neither served nor read."""
    (place,) = user.upload(saved.images[0]).json()
    assert user.http.get(f"gradio_api/file={place}").status_code == 200
    for path in ("/etc/passwd", f"{place}/../../../../etc/passwd", os.getcwd(), "web.py"):
        assert user.http.get(f"gradio_api/file={path}").status_code == 404
        escaped = path.replace(".", "%2e").replace("/", "%2f")
        assert user.http.get(f"gradio_api/file={escaped}").status_code == 404
    count = len(page.predictor.predicted)
    for path in (str(saved.images[0]), "/etc/passwd", f"{place}/../../../{saved.images[0]}"):
        with pytest.raises(RuntimeError):
            user.predict_place(path)
    assert len(page.predictor.predicted) == count


def test_names_of_uploads_stay_in_their_folder(user: User, saved: Saved) -> None:
    content = saved.images[0].read_bytes()
    for name in ("../../../../tmp/evil.png", "/tmp/evil.png", "..\\evil.png", "<b>.png"):
        answer = user.http.post("gradio_api/upload", files={"files": (name, content)})
        if answer.status_code == 200:
            (place,) = answer.json()
            assert Path(place).parents[2] == Path(os.environ["GRADIO_TEMP_DIR"]).parent
            assert "<" not in place
    assert not Path("/tmp/evil.png").exists()


def test_no_url_is_fetched(user: User) -> None:
    requested = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.jpg"
        with pytest.raises(RuntimeError):
            user.predict_place(url)
        for route in ("file", "proxy"):
            assert user.http.get(f"gradio_api/{route}={url}").status_code == 404
        server.shutdown()
    assert requested == []


def test_the_page_loads_nothing_from_other_sites(user: User) -> None:
    answer = user.http.get("/")
    assert answer.headers["content-security-policy"] == web_guard.HEADERS[0][1].decode()
    assert "fonts.googleapis" not in answer.text
    config = user.http.get("config").json()
    assert config["analytics_enabled"] is False
    assert all(entry["api_visibility"] == "private" for entry in config["dependencies"])
    assert user.http.get("/", headers={"host": "evil.example"}).status_code == 400


def test_results_equal_those_of_the_command_line(
    page: ServedPage, user: User, saved: Saved
) -> None:
    predicted = SharedPredictor(page.predictor, max_pixels=10**6).predict_file(saved.images[2])
    shown = user.predict(saved.images[2])
    options = DisplayOptions(score=0.25, panoptic_score=0.5)
    assert json.loads(user.fetch(shown["json"]["value"])) == json.loads(
        encode_json(predicted, options)
    )


def test_the_command_serves_until_sigterm(saved: Saved, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'yolor_d2[web]'")
    port = str(free_port())
    command = [sys.executable, "-W", "ignore", "-m", "yolor_d2.tools.web", "--port", port]
    command += ["--weights", str(saved.path), "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "GRADIO_SHARE": "True"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert (
            process.stdout.readline()
            == f"The page is at http://127.0.0.1:{port}/; Ctrl-C stops the server\n"
        )
        taken = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert taken.returncode == 2
        assert taken.stderr.splitlines()[-1] == f"web: port {port} of 127.0.0.1 cannot be used"
        assert list(tmp_path.glob("yolor_d2_web_*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not list(tmp_path.glob("yolor_d2_web_*"))
