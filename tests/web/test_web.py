"""What the web page does, without a page: uploads, predictions and pictures of them, the door."""

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
from yolor_d2.web.session import Network, View, json_of, picture_of, size_of, times_of
from yolor_d2.web.uploads import BadUploadError, fitting_size, read_upload

from ..saved_networks import Saved


@pytest.fixture(scope="module")
def network(saved: Saved) -> Network:
    predictor = Predictor(saved.path, device="cpu", score_threshold=web.LOWEST_SCORE)
    return Network(predictor, max_pixels=160 * 120)


def decode(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


# Uploads


@pytest.mark.parametrize("kind", web_uploads.FORMATS)
def test_pictures_are_known_by_their_bytes(kind: str, tmp_path: Path) -> None:
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.txt", format=kind)
    upload = read_upload(tmp_path / "picture.txt", max_pixels=600)
    assert upload.pixels.shape == (20, 30, 3)
    assert np.abs(upload.pixels.astype(int) - pixels).max() < 12
    assert (upload.name, upload.width, upload.height) == ("picture.txt", 30, 20)
    assert not upload.is_scaled


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "pickle.png").write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    (tmp_path / "empty.gif").touch()
    (tmp_path / "svg.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "eps.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for path in tmp_path.iterdir():
        with pytest.raises(BadUploadError, match=r"^This file is not a picture .*JPEG, PNG"):
            read_upload(path, max_pixels=100)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_pictures(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format=kind)
    (tmp_path / "half").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(BadUploadError, match=r"damaged|not a picture"):
        read_upload(tmp_path / "half", max_pixels=100)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_pictures_are_scaled_down(kind: str, orientation: int, tmp_path: Path) -> None:
    image = Image.new("RGB", (1600, 400), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 800, 400))
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6: what is stored on the left is above
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
        raise AssertionError("was decoded")

    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "more.png")  # Pillow refuses it itself
    Image.new("1", (60_000, 200)).save(tmp_path / "wide.png")
    Image.new("1", (1, 600)).save(tmp_path / "narrow.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for name in ("bomb", "more", "wide"):
        with pytest.raises(BadUploadError, match=r"too large.*100 megapixels"):
            read_upload(tmp_path / f"{name}.png", max_pixels=100)
    with pytest.raises(BadUploadError, match="too narrow to see anything, 1 x 600"):
        read_upload(tmp_path / "narrow.png", max_pixels=100)


def test_sizes_that_fit() -> None:
    assert fitting_size(8000, 6250, 4_000_000) == (2262, 1767)
    assert fitting_size(30, 20, 600) == (30, 20)
    assert fitting_size(500, 1, 1) == (22, 1)


# Predictions


def test_one_run_of_the_network_for_many_pictures(network: Network, saved: Saved) -> None:
    seen = network.see(saved.images[0])
    assert list(seen.seconds) == ["reading", "network"]
    assert size_of(seen) == "160 x 120 pixels"
    views = [View((layer,)) for layer in LAYERS] + [View(()), View(), View(opacity=0.9)]
    contents = [picture_of(seen, view)[0] for view in views]
    assert len(set(contents)) == len(contents)  # every toggle shows something
    plain = cv2.resize(decode(contents[len(LAYERS)]), (160, 120), interpolation=cv2.INTER_AREA)
    assert np.abs(plain.astype(int) - seen.upload.pixels).mean() < 8
    assert times_of(seen, 0.5).startswith("reading ")
    assert times_of(seen, 0.5).endswith(", drawing 500 ms")


def test_thresholds_hold_for_picture_and_json(network: Network, saved: Saved) -> None:
    seen = network.see(saved.images[0])
    scores = seen.prediction.instances.scores.tolist()
    middle = sorted(scores)[len(scores) // 2]
    few, all_of_them = View(score=middle), View(score=0.0)
    content = json.loads(json_of(seen, few))
    assert 0 < len(content["instances"]) < len(json.loads(json_of(seen, all_of_them))["instances"])
    assert min(thing["score"] for thing in content["instances"]) >= middle - 1e-4
    assert picture_of(seen, few)[0] != picture_of(seen, all_of_them)[0]
    nothing = json.loads(json_of(seen, View(panoptic_score=1.1)))
    assert not any(segment["isthing"] for segment in nothing["segments_info"])
    assert content["file_name"] == saved.images[0].name  # no folder of the server


def test_scaled_pictures_say_so(network: Network, saved: Saved, tmp_path: Path) -> None:
    Image.open(saved.images[0]).resize((640, 480)).save(tmp_path / "large.png")
    seen = network.see(tmp_path / "large.png")
    assert size_of(seen) == "Scaled down from 640 x 480 to 160 x 120 pixels."
    content = json.loads(json_of(seen, View()))
    assert (content["width"], content["height"]) == (160, 120)
    assert content["scaled_from"] == {"width": 640, "height": 480}


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (1, 500)])
def test_the_smallest_pictures(size: tuple[int, int], network: Network, tmp_path: Path) -> None:
    Image.new("RGB", size).save(tmp_path / "x.png")
    assert decode(picture_of(network.see(tmp_path / "x.png"), View())[0]).size


# The door


def ask(guard: Guard, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[Any, Any]]:
    """Status and headers of what is answered."""
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


def test_what_the_page_needs_comes_in(guard: Guard) -> None:
    for path in ("/", "/assets/index.js", "/gradio_api/file=/tmp/page/x/y.jpg"):
        status, headers = ask(guard, path)
        assert status == 200
        assert headers[HEADERS[0][0]] == HEADERS[0][1]
    assert ask(guard, "/gradio_api/upload", "POST", content_length="1000100")[0] == 200
    assert ask(guard, "/gradio_api/queue/join", "POST", content_length="900")[0] == 200


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
def test_all_else_does_not(path: str, guard: Guard) -> None:
    status, headers = ask(guard, f"{web_guard.API}/{path}")
    assert (status, headers[b"content-type"]) == (404, b"application/json")


def test_requests_are_small_and_say_so(guard: Guard) -> None:
    assert ask(guard, "/gradio_api/upload", "POST", content_length="1100000")[0] == 413
    assert ask(guard, "/gradio_api/upload", "POST", transfer_encoding="chunked")[0] == 411
    assert ask(guard, "/gradio_api/queue/join", "POST", content_length="1100000")[0] == 413


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:7860", 200), ("[::1]:7860", 200), ("evil.example:7860", 400), ("[", 400)],
)
def test_names_of_the_server(host: str, status: int, guard: Guard) -> None:
    """A page whose name has been pointed at this machine reads nothing."""
    assert ask(guard, "/", host=host)[0] == status
    guard.hosts = None
    assert ask(guard, "/", host=host)[0] == 200


# The command


def test_only_this_machine_by_default() -> None:
    args = web.parse_args(["--weights", "x.pth"])
    assert (args.host in LOOPBACK, args.port, args.max_upload_mb) == (True, 7860, 20)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--max-pixels", "0"), ("--max-pixels", "1e9"), ("--max-pixels", "1000000000")),
        *(("--max-upload-mb", "nan"), ("--port", "0"), ("--port", "65536"), ("--port", "-4")),
    ],
)
def test_numbers_that_cannot_be(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        web.parse_args(["--weights", "x.pth", f"{flag}={value}"])
    assert f"argument {flag}: {value} is not" in capsys.readouterr().err


def test_without_gradio_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert web.main(["--weights", "x.pth"]) == 2
    assert capsys.readouterr().err == f"web: {web.MISSING}\n"


def test_the_door_and_the_rest_do_without_gradio() -> None:
    code = "import sys, yolor_d2.tools.web; sys.exit('gradio' in sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
