"""Uploads, predictions and request filter of the web page, without Gradio."""

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from yolor_d2 import Predictor
from yolor_d2.tools import web
from yolor_d2.visualization import LAYERS
from yolor_d2.web import guard as web_guard
from yolor_d2.web import uploads as web_uploads
from yolor_d2.web.guard import HEADERS, LOOPBACK, Guard
from yolor_d2.web.session import (
    LOWEST_SCORE,
    DisplayOptions,
    SharedPredictor,
    draw_picture,
    encode_json,
    size_text,
    times_text,
)
from yolor_d2.web.uploads import BadUploadError, fitting_size, read_upload

from ..saved_networks import Saved


@pytest.fixture(scope="module")
def shared(saved: Saved) -> SharedPredictor:
    predictor = Predictor(saved.path, device="cpu", score_threshold=LOWEST_SCORE)
    return SharedPredictor(predictor, max_pixels=160 * 120)


def decode(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


# Uploads


@pytest.mark.parametrize("kind", web_uploads.FORMATS)
def test_formats_are_detected_from_content(kind: str, tmp_path: Path) -> None:
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.txt", format=kind)
    upload = read_upload(tmp_path / "picture.txt", max_pixels=600)
    assert upload.pixels.shape == (20, 30, 3)
    assert np.abs(upload.pixels.astype(int) - pixels).max() < 12
    assert (upload.name, upload.width, upload.height) == ("picture.txt", 30, 20)
    assert not upload.is_scaled


def test_files_that_are_not_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "pickle.png").write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    (tmp_path / "empty.gif").touch()
    (tmp_path / "svg.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "eps.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for path in tmp_path.iterdir():
        with pytest.raises(
            BadUploadError, match=r"^This file is not a supported picture .*JPEG, PNG"
        ):
            read_upload(path, max_pixels=100)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_pictures(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format=kind)
    (tmp_path / "half").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(BadUploadError, match=r"damaged|not a supported picture"):
        read_upload(tmp_path / "half", max_pixels=100)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_pictures_are_scaled_down(kind: str, orientation: int, tmp_path: Path) -> None:
    image = Image.new("RGB", (1600, 400), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 800, 400))
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6: the stored left side is the top
    image.save(tmp_path / "x", format=kind, exif=exif)
    upload = read_upload(tmp_path / "x", max_pixels=10_000)
    size = (400, 1600) if orientation == 6 else (1600, 400)
    assert (upload.width, upload.height) == size
    assert upload.pixels.shape[1::-1] == fitting_size(*size, 10_000)
    assert upload.pixels[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert upload.pixels[-1, -1].tolist() == pytest.approx([0, 0, 255], abs=3)


def test_bombs_are_refused_from_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(image: Image.Image) -> None:
        raise AssertionError("must not be decoded")

    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "more.png")  # refused by Pillow
    Image.new("1", (60_000, 200)).save(tmp_path / "wide.png")
    Image.new("1", (1, 600)).save(tmp_path / "narrow.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for name in ("bomb", "more", "wide"):
        with pytest.raises(BadUploadError, match=r"too large.*100 megapixels"):
            read_upload(tmp_path / f"{name}.png", max_pixels=100)
    with pytest.raises(BadUploadError, match="too narrow, 1 x 600"):
        read_upload(tmp_path / "narrow.png", max_pixels=100)


def test_fitting_size() -> None:
    assert fitting_size(8000, 6250, 4_000_000) == (2262, 1767)
    assert fitting_size(30, 20, 600) == (30, 20)
    assert fitting_size(500, 1, 1) == (22, 1)


# Predictions


def test_one_prediction_gives_many_pictures(shared: SharedPredictor, saved: Saved) -> None:
    predicted = shared.predict_file(saved.images[0])
    assert list(predicted.seconds) == ["reading", "network"]
    assert size_text(predicted) == "160 x 120 pixels"
    options = [DisplayOptions((layer,)) for layer in LAYERS] + [
        DisplayOptions(()),
        DisplayOptions(),
        DisplayOptions(opacity=0.9),
    ]
    contents = [draw_picture(predicted, option)[0] for option in options]
    assert len(set(contents)) == len(contents)  # every option changes the picture
    plain = cv2.resize(decode(contents[len(LAYERS)]), (160, 120), interpolation=cv2.INTER_AREA)
    assert np.abs(plain.astype(int) - predicted.upload.pixels).mean() < 8
    assert times_text(predicted, 0.5).startswith("reading ")
    assert times_text(predicted, 0.5).endswith(", drawing 500 ms")


def test_thresholds_apply_to_picture_and_json(shared: SharedPredictor, saved: Saved) -> None:
    predicted = shared.predict_file(saved.images[0])
    scores = predicted.prediction.instances.scores.tolist()
    middle = sorted(scores)[len(scores) // 2]
    few, all_of_them = DisplayOptions(score=middle), DisplayOptions(score=0.0)
    content = json.loads(encode_json(predicted, few))
    assert (
        0
        < len(content["instances"])
        < len(json.loads(encode_json(predicted, all_of_them))["instances"])
    )
    assert min(thing["score"] for thing in content["instances"]) >= middle - 1e-4
    assert draw_picture(predicted, few)[0] != draw_picture(predicted, all_of_them)[0]
    nothing = json.loads(encode_json(predicted, DisplayOptions(panoptic_score=1.1)))
    assert not any(segment["isthing"] for segment in nothing["segments_info"])
    assert content["file_name"] == saved.images[0].name  # not the server's folder


def test_scaling_is_reported(shared: SharedPredictor, saved: Saved, tmp_path: Path) -> None:
    Image.open(saved.images[0]).resize((640, 480)).save(tmp_path / "large.png")
    predicted = shared.predict_file(tmp_path / "large.png")
    assert size_text(predicted) == "Scaled down from 640 x 480 to 160 x 120 pixels."
    content = json.loads(encode_json(predicted, DisplayOptions()))
    assert (content["width"], content["height"]) == (160, 120)
    assert content["scaled_from"] == {"width": 640, "height": 480}


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (1, 500)])
def test_the_smallest_pictures(
    size: tuple[int, int], shared: SharedPredictor, tmp_path: Path
) -> None:
    Image.new("RGB", size).save(tmp_path / "x.png")
    assert decode(draw_picture(shared.predict_file(tmp_path / "x.png"), DisplayOptions())[0]).size


# The request filter


def request(
    guard: Guard, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[Any, Any]]:
    """Status and headers of the response."""
    sent: list[Any] = []
    named = {"host": "localhost:7860", **{k.replace("_", "-"): v for k, v in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "path": path, "method": method, "headers": raw}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.fixture
def guard() -> Guard:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    return Guard(app, files="/tmp/page", max_upload=1_000_000)


def test_needed_requests_pass(guard: Guard) -> None:
    for path in ("/", "/assets/index.js", "/gradio_api/file=/tmp/page/x/y.jpg"):
        status, headers = request(guard, path)
        assert status == 200
        assert headers[HEADERS[0][0]] == HEADERS[0][1]
    assert request(guard, "/gradio_api/upload", "POST", content_length="1000100")[0] == 200
    assert request(guard, "/gradio_api/queue/join", "POST", content_length="900")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("file=/etc/passwd", "file=/tmp/page/../x", "file=/tmp/pages/x", "file=http://127.0.0.1/"),
        *(
            "proxy=http://127.0.0.1/",
            "info",
            "vibe-code",
            "run/predict",
            "call/predict",
            "stream/1",
        ),
    ],
)
def test_other_requests_are_refused(path: str, guard: Guard) -> None:
    status, headers = request(guard, f"{web_guard.API}/{path}")
    assert (status, headers[b"content-type"]) == (404, b"application/json")


def test_requests_need_a_length_within_the_limit(guard: Guard) -> None:
    assert request(guard, "/gradio_api/upload", "POST", content_length="1100000")[0] == 413
    assert request(guard, "/gradio_api/upload", "POST", transfer_encoding="chunked")[0] == 411
    assert request(guard, "/gradio_api/queue/join", "POST", content_length="1100000")[0] == 413


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:7860", 200), ("[::1]:7860", 200), ("evil.example:7860", 400), ("[", 400)],
)
def test_server_names(host: str, status: int, guard: Guard) -> None:
    """A site whose name points to this machine is refused (DNS rebinding)."""
    assert request(guard, "/", host=host)[0] == status
    guard.hosts = None
    assert request(guard, "/", host=host)[0] == 200


# The command


def test_loopback_is_the_default() -> None:
    args = web.parse_args(["--weights", "x.pth"])
    assert (args.host in LOOPBACK, args.port, args.max_upload_mb) == (True, 7860, 20)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--max-pixels", "0"), ("--max-pixels", "1e9"), ("--max-pixels", "1000000000")),
        *(("--max-upload-mb", "nan"), ("--port", "0"), ("--port", "65536"), ("--port", "-4")),
    ],
)
def test_invalid_numbers_are_refused(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        web.parse_args(["--weights", "x.pth", f"{flag}={value}"])
    assert f"argument {flag}: {value} is not" in capsys.readouterr().err


def test_missing_gradio_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yolor_d2.web.server.find_spec", lambda name: None)
    assert web.main(["--weights", "x.pth"]) == 2
    error = "web: Gradio is not installed: pip install 'yolor_d2[web]'\n"
    assert capsys.readouterr().err == error


def test_importing_the_tool_does_not_import_gradio() -> None:
    code = "import sys, yolor_d2.tools.web; sys.exit('gradio' in sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
