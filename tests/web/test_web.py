"""The queue, the card, the examples and the command of the web page, without a server."""

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from yolor_d2 import Predictor
from yolor_d2.tools import web
from yolor_d2.web.access import LOOPBACK, Access, RateLimit
from yolor_d2.web.card import network_card
from yolor_d2.web.examples import NUMBER, find_examples
from yolor_d2.web.handler import file_name
from yolor_d2.web.prediction_queue import LOWEST_SCORE, BusyError, PredictionQueue
from yolor_d2.web.server import address_of
from yolor_d2.web.uploads import BadUploadError

from ..saved_networks import Saved


@pytest.fixture(scope="module")
def predictor(saved: Saved) -> Predictor:
    return Predictor(saved.path, device="cpu", score_threshold=LOWEST_SCORE)


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 30)).save(buffer, format="PNG")
    return buffer.getvalue()


# Predictions


def test_an_answer_is_the_prediction(predictor: Predictor, saved: Saved) -> None:
    queue = PredictionQueue(predictor, max_pixels=160 * 120)
    answer = queue.predict(saved.images[0].read_bytes(), saved.images[0].name)
    truth = predictor(str(saved.images[0])).to_json()
    assert answer["prediction"] == truth | {"file_name": saved.images[0].name}
    assert list(answer["seconds"]) == ["reading", "network"]
    assert answer["picture"] is None


def test_pictures_that_browsers_cannot_show_are_sent_back(predictor: Predictor) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), (90, 120, 30)).save(buffer, format="TIFF")
    answer = PredictionQueue(predictor, max_pixels=160 * 120).predict(buffer.getvalue(), "x.tif")
    assert answer["picture"].startswith("data:image/jpeg;base64,/9j/")
    assert answer["prediction"]["scaled_from"] == {"width": 640, "height": 480}
    assert answer["prediction"]["width"] == 160


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (1, 500)])
def test_the_smallest_pictures(size: tuple[int, int], predictor: Predictor) -> None:
    answer = PredictionQueue(predictor, max_pixels=1000).predict(png(*size), "x.png")
    assert (answer["prediction"]["width"], answer["prediction"]["height"]) == size


class SlowPredictor:
    """Predicts when it may."""

    def __init__(self) -> None:
        self.is_running, self.may_finish = threading.Event(), threading.Event()

    def predict(self, pictures: Any) -> Any:
        self.is_running.set()
        self.may_finish.wait(30)
        raise RuntimeError("finished")


def test_the_queue_is_limited() -> None:
    slow: Any = SlowPredictor()
    queue = PredictionQueue(slow, max_pixels=100, max_waiting=2, seconds=30)
    errors: list[Exception] = []

    def use() -> None:
        try:
            queue.predict(png(9, 9), "x.png")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(2)]
    threads[0].start()
    assert slow.is_running.wait(30)
    threads[1].start()
    while queue._thread._work_queue.empty():  # the second one waits
        pass
    with pytest.raises(BusyError, match="Too many pictures are waiting"):
        queue.predict(png(9, 9), "x.png")
    slow.may_finish.set()
    for thread in threads:
        thread.join(30)
    assert [str(error) for error in errors] == ["finished", "finished"]
    with pytest.raises(BadUploadError):  # the places are free again
        queue.predict(b"", "")


def test_waiting_is_limited() -> None:
    slow: Any = SlowPredictor()
    queue = PredictionQueue(slow, max_pixels=100, seconds=0.05)
    for _ in range(3):
        with pytest.raises(BusyError, match=r"no answer within 0.05 seconds"):
            queue.predict(png(9, 9), "x.png")
    slow.may_finish.set()


def test_a_closed_queue_refuses_pictures() -> None:
    slow: Any = SlowPredictor()
    queue = PredictionQueue(slow, max_pixels=100)
    queue.close()
    with pytest.raises(BusyError, match="stopping"):
        queue.predict(png(9, 9), "x.png")


# The network, and pictures to try


def test_the_card_names_all_that_predictions_contain(predictor: Predictor, saved: Saved) -> None:
    card = network_card(predictor, "toy/model.pth")
    assert card["name"] == "toy/model.pth"
    assert card["tasks"] == list(predictor.tasks)
    found = predictor(str(saved.images[0])).to_json()
    entries = {"thing": "instances", "stuff": "sem_seg", "panoptic": "segments_info"}
    assert list(card["classes"]) == list(entries)
    for kind, key in entries.items():
        names = {each["id"]: each["name"] for each in card["classes"][kind]}
        assert found[key]
        assert all(names[entry["category_id"]] == entry["category_name"] for entry in found[key])
        assert all(len(each["color"]) == 3 for each in card["classes"][kind])


def test_examples_are_the_first_usable_pictures(tmp_path: Path) -> None:
    for number in range(NUMBER + 2):
        Image.new("RGB", (300, 200)).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "00.jpg").write_bytes(b"damaged")
    (tmp_path / "00.txt").write_text("no picture")
    (tmp_path / "00a.png").write_bytes(bytes(20_000))
    (tmp_path / "00.gif").mkdir()
    found = find_examples(tmp_path, max_bytes=10_000)
    assert [each.name for each in found] == [f"{number:02d}.png" for number in range(NUMBER)]
    assert Image.open(io.BytesIO(found[0].thumbnail)).size == (244, 163)
    with pytest.raises(ValueError, match=r"has no pictures of at most 0.0001 MB"):
        find_examples(tmp_path, max_bytes=100)


# Who can use it


def refused(access: Access, *, is_page: bool = False, **headers: str) -> int:
    """Status of the refusal; 0 without one."""
    named = {"Host": "localhost:7860"} | {k.replace("_", "-"): v for k, v in headers.items()}
    refusal = access.refusal(named, is_page=is_page)
    return refusal[0] if refusal else 0


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1:7860", 0), ("localhost", 0), ("LOCALHOST:1", 0), ("[::1]:7860", 0)),
        *(("evil.example:7860", 400), ("localhost.evil.example", 400), ("[", 400), ("", 400)),
    ],
)
def test_server_names(host: str, status: int) -> None:
    """A site whose name points to this machine is refused (DNS rebinding)."""
    assert refused(Access(), Host=host) == status
    assert refused(Access(None, "secret"), Host=host, Authorization="Bearer secret") == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 0),  # a program
        ({"Origin": "http://localhost:7860", "Sec_Fetch_Site": "same-origin"}, 0),
        ({"Sec_Fetch_Site": "none"}, 0),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:8000"}, 403),  # another page of this machine
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
    ],
)
def test_origins(headers: dict[str, str], status: int) -> None:
    assert refused(Access(), **headers) == status
    assert refused(Access(), is_page=True, **headers) == 0  # links to the page


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer secret"}, 0),
        ({"Authorization": "Bearer secre"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Cookie": "a=b; yolor_d2_token=secret"}, 0),
        ({"Cookie": 'prefs={"x":1}; flag; a[0]=1; a/b=1; yolor_d2_token=secret'}, 0),
        ({"Cookie": "other_yolor_d2_token=secret"}, 401),
        ({"Cookie": "yolor_d2_token="}, 401),
        ({"Cookie": "yolor_d2_token=\udcff"}, 401),
    ],
)
def test_tokens(headers: dict[str, str], status: int) -> None:
    assert refused(Access(None, "secret"), is_page=True, **headers) == status


def test_the_rate_is_limited_by_address() -> None:
    now = 100.0
    limit = RateLimit(3, clock=lambda: now)
    assert [limit.seconds_to_wait("a") for _ in range(4)] == [0, 0, 0, 20]
    assert limit.seconds_to_wait("b") == 0
    now = 115
    assert limit.seconds_to_wait("a") == 5
    now = 120
    assert [limit.seconds_to_wait("a") for _ in range(2)] == [0, 20]


def test_the_rate_limit_forgets_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLimit, "MAX_ADDRESSES", 5)
    now = 0.0
    limit = RateLimit(1, clock=lambda: now)
    for number in range(5):
        limit.seconds_to_wait(str(number))
        now += 20
    limit.seconds_to_wait("new")
    assert len(limit._free_at) < 5


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("a b.jpg", "a b.jpg"), ("../../etc/passwd", "passwd"), ("C:\\x\\y.png", "y.png")),
        *(("", "picture"), ("..", "picture"), ("/", "picture"), ("a\n\x1b[31mb", "a[31mb")),
        ("x" * 999, "x" * 200),
    ],
)
def test_file_names(text: str, name: str) -> None:
    assert file_name(text) == name


# The command


def test_loopback_is_the_default(predictor: Predictor) -> None:
    args = web.make_parser().parse_args(["--weights", "runs/toy/x.pth"])
    assert (args.host in LOOPBACK, args.port, args.max_upload_mb) == (True, 7860, 20)
    site = web.make_site(args, predictor)
    assert site.access == Access(LOOPBACK, "")
    assert site.card["name"] == "toy/x.pth"
    assert site.max_upload == 20_000_000


def test_other_addresses_need_a_token_and_show_no_data(predictor: Predictor) -> None:
    args = web.make_parser().parse_args(["--weights", "x.pth", "--host", "0.0.0.0"])
    sites = [web.make_site(args, predictor) for _ in range(2)]
    assert all(len(site.access.token) >= 32 for site in sites)
    assert sites[0].access.token != sites[1].access.token
    assert sites[0].examples == []
    assert address_of("10.0.0.7", 80, "abc") == "http://10.0.0.7:80/?token=abc"
    assert address_of("::1", 80, "") == "http://[::1]:80/"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--max-pixels", "0"), ("--max-pixels", "1e9"), ("--max-pixels", "1000000000")),
        *(
            ("--max-upload-mb", "nan"),
            ("--max-upload-mb", "1,5"),
            ("--port", "0"),
            ("--port", "65536"),
            ("--port", "-4"),
        ),
        ("--max-per-minute", "0"),
    ],
)
def test_invalid_numbers_are_refused(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        web.make_parser().parse_args(["--weights", "x.pth", f"{flag}={value}"])
    assert f"argument {flag}: {value} is not" in capsys.readouterr().err
