"""The page in a real browser: Debian's chromium and chromium-driver, and selenium."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ..saved_networks import Saved
from .pages import ServedPage, free_port, serve

SECONDS = 60  # timeout on a busy machine
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"),
    *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
)
LOGS = {"browser": "ALL", "performance": "ALL"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; its start takes seconds."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install 'yolor_d2[browser]'"
    )
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", LOGS)
    service = webdriver.ChromeService(driver)
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


class Tab:
    """The page in a new browser tab.

    Args:
        browser: browser in which the tab is opened.
        url: URL of the page.
    """

    def __init__(self, browser: Any, url: str) -> None:
        browser.switch_to.new_window("tab")
        self.browser = browser
        self.handle = browser.current_window_handle
        browser.get(url)
        self.wait(lambda: self.find("#layers input"))

    def activate(self) -> None:
        self.browser.switch_to.window(self.handle)

    def find(self, selector: str) -> list[Any]:
        self.activate()
        return self.browser.find_elements("css selector", selector)

    def run(self, script: str, *arguments: Any) -> Any:
        self.activate()
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, SECONDS).until(lambda _: condition())

    def drop(self, path: Path) -> None:
        """Upload a file, without waiting for the result."""
        self.find("#file")[0].send_keys(str(path))

    def predict(self, path: Path) -> None:
        """Upload a file, and wait for the result."""
        self.drop(path)
        self.wait(lambda: path.name in self.text("status") and not self.is_busy and self.rows)

    def click(self, label: str) -> None:
        """Choose a layer or a map."""
        (box,) = [e for e in self.find(".choice") if e.text.strip() == label]
        box.click()

    def slide(self, name: str, value: float) -> None:
        script = "let e = document.getElementById(arguments[0]); e.value = arguments[1];"
        self.run(script + "e.dispatchEvent(new Event('input'))", name, value)

    def text(self, name: str) -> str:
        return "".join(e.text for e in self.find(f"#{name}"))

    @property
    def is_busy(self) -> bool:
        return self.find("#result")[0].get_attribute("aria-busy") == "true"

    @property
    def rows(self) -> list[Any]:
        return self.find("#lists tbody tr")

    @property
    def has_error(self) -> bool:
        return "error" in self.find("#status")[0].get_attribute("class")

    @property
    def picture(self) -> str:
        """A digest of the picture as it is drawn; "" without one."""
        if not self.find("#figure")[0].is_displayed():
            return ""
        address = self.run("return document.getElementById('picture').toDataURL()")
        return hashlib.sha256(address.encode()).hexdigest()

    def colors(self, *points: tuple[float, float]) -> list[list[int]]:
        """Colors of the picture at x, y from 0 to 1."""
        script = """
            const canvas = document.getElementById('picture');
            return arguments[0].map(([x, y]) => [...canvas.getContext('2d').getImageData(
              x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3));
        """
        return self.run(script, points)


@pytest.fixture
def open_tab(page: ServedPage, chromium: Any) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, and closes them."""
    (home,) = chromium.window_handles
    yield lambda url=page.url: Tab(chromium, url)
    for handle in set(chromium.window_handles) - {home}:
        chromium.switch_to.window(handle)
        chromium.close()
    chromium.switch_to.window(home)


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    return open_tab()


# What a person sees


def test_the_page_names_the_network_and_its_classes(tab: Tab, page: ServedPage) -> None:
    assert tab.text("name") == "toy/model.pth"
    assert tab.text("facts").startswith("detection, mask, semantic, caption · ")
    assert tab.text("limits") == "JPEG, PNG, WEBP, BMP, GIF, TIFF up to 1 MB"
    tab.find("#counts")[0].click()
    names = [e.text for e in tab.find("#classes .class")]
    assert names[: len(page.predictor.metadata.thing_classes)] == list(
        page.predictor.metadata.thing_classes
    )


def test_the_untouched_picture_is_first(tab: Tab, page: ServedPage, tmp_path: Path) -> None:
    Image.new("RGB", (160, 120), (90, 120, 30)).save(tmp_path / "plain.png")
    page.predictor.may_predict.clear()
    try:
        tab.drop(tmp_path / "plain.png")
        tab.wait(lambda: tab.picture)
        assert tab.is_busy
        assert "plain.png: the network is working" in tab.text("status")
        points = [(x / 8, y / 8) for x in range(8) for y in range(8)]
        assert tab.colors(*points) == [[90, 120, 30]] * 64
    finally:
        page.predictor.may_predict.set()
    tab.wait(lambda: not tab.is_busy)


def test_a_picture_and_its_layers(tab: Tab, page: ServedPage, saved: Saved) -> None:
    tab.predict(saved.images[0])
    truth = page.predictor(str(saved.images[0]))
    count = int((truth.instances.scores >= 0.25).sum())
    assert tab.text("caption") == truth.caption
    assert tab.text("status") == f"{saved.images[0].name}: {count} objects"
    assert len(tab.find("#objects tbody tr")) == count
    assert tab.text("times").startswith("160 × 120 pixels · reading ")  # noqa: RUF001
    predicted = len(page.predictor.predicted)
    pictures = [tab.picture]
    for name in ("boxes", "masks", "labels", "panoptic", "semantic"):
        tab.click(name)
        pictures.append(tab.picture)
    tab.slide("opacity", 0.9)
    pictures.append(tab.picture)
    assert len(set(pictures)) == len(pictures)
    for name in ("boxes", "masks", "labels", "none"):
        tab.click(name)
    tab.slide("opacity", 0.5)
    assert tab.picture == pictures[0]
    tab.find("#original")[0].click()
    assert tab.picture == pictures[3]  # without boxes, masks and labels
    assert len(page.predictor.predicted) == predicted


def test_a_row_puts_its_object_in_the_spotlight(tab: Tab, saved: Saved) -> None:
    tab.predict(saved.images[0])
    before = tab.picture
    tab.rows[1].click()
    assert [row.get_attribute("class") for row in tab.rows[:3]] == ["", "selected", ""]
    selected = tab.picture
    assert selected != before
    tab.find("#lists td button")[1].send_keys("\ue007")  # Enter
    assert tab.picture == before
    tab.find("#lists td button")[1].send_keys("\ue00d")  # space
    assert tab.picture == selected
    pressed = tab.find("#lists td button")[1]
    assert pressed.get_attribute("aria-pressed") == "true"
    assert tab.run("return document.activeElement") == pressed  # the focus stays
    pressed.send_keys("\ue00c")  # Escape
    assert tab.picture == before
    tab.find("#picture")[0].click()
    assert len(tab.find("tr.selected")) == 1


def test_nothing_found_is_said(tab: Tab, saved: Saved) -> None:
    tab.predict(saved.images[0])
    tab.slide("score", 1)
    name = saved.images[0].name
    expected = f"{name}: nothing was found with a score of at least 100 %, "
    assert tab.text("status").startswith(expected)
    assert tab.text("status").endswith(" below: lower the score threshold to see them.")
    assert tab.text("objects") == "No objects."


def test_masks_are_those_of_the_prediction(tab: Tab, page: ServedPage, saved: Saved) -> None:
    content = page.predictor(str(saved.images[0])).to_json()
    entries = [*content["instances"], *content["segments_info"], *content["sem_seg"]]
    script = """
        const [masks, done] = arguments;
        const describe = (found) =>
          found && [found.x, found.y, found.width, found.height, [...found.inside].join('')];
        import(new URL('masks.js', location.href)).then(
          ({ maskWindow }) => done(masks.map((mask) => describe(maskWindow(mask)))),
          (error) => done(String(error)),
        );
    """
    masks = [entry["segmentation"] for entry in entries]
    tab.activate()
    windows = tab.browser.execute_async_script(script, masks)
    assert len(windows) == len(masks) > 10
    for window, mask in zip(windows, masks, strict=True):
        decoded = coco_mask.decode(mask)
        if not decoded.any():
            assert window is None
            continue
        x, y, width, height, inside = window
        assert [x, y, width, height] == coco_mask.toBbox(mask).tolist()
        pixels = np.array([int(digit) for digit in inside]).reshape(height, width)
        assert (pixels == decoded[y : y + height, x : x + width]).all()


def test_pictures_that_browsers_do_not_know(tab: Tab, tmp_path: Path) -> None:
    Image.new("RGB", (160, 120), (90, 120, 30)).save(tmp_path / "scan.tif")
    tab.predict(tmp_path / "scan.tif")
    tab.find("#original")[0].click()
    assert np.abs(np.array(tab.colors((0.5, 0.5))[0]) - (90, 120, 30)).max() < 6


def test_turned_pictures(tab: Tab, tmp_path: Path) -> None:
    image = Image.new("RGB", (160, 120), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 80, 120))
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left side is the top
    for name in ("a.jpg", "b.png", "c.webp"):
        image.save(tmp_path / name, exif=exif, quality=95)
        tab.predict(tmp_path / name)
        assert tab.text("times").startswith("120 × 160 pixels")  # noqa: RUF001
        tab.find("#original")[0].click()
        top, bottom = tab.colors((0.5, 0.1), (0.5, 0.9))
        assert top[0] > 240 > 20 > top[2]
        assert bottom[2] > 240 > 20 > bottom[0]


def test_examples(tab: Tab, saved: Saved) -> None:
    pictures = tab.find("#examples img")
    assert [e.get_attribute("alt") for e in pictures] == [image.name for image in saved.images]
    pictures[2].click()
    tab.wait(lambda: tab.rows)
    assert tab.text("status").startswith(f"{saved.images[2].name}: ")


def test_a_picture_can_be_dropped_anywhere_and_pasted(tab: Tab) -> None:
    script = """
        const [kind, field, event] = arguments;
        const canvas = document.createElement('canvas');
        canvas.toBlob((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], `${event}.png`, { type: 'image/png' }));
          dispatchEvent(new window[kind](event, { [field]: data, cancelable: true }));
        });
    """
    for kind, field, event in (
        ("DragEvent", "dataTransfer", "drop"),
        ("ClipboardEvent", "clipboardData", "paste"),
    ):
        tab.run(script, kind, field, event)
        tab.wait(lambda event=event: tab.text("status").startswith(f"{event}.png: ") and tab.rows)


# Errors


def test_a_new_error_replaces_the_old_one(tab: Tab, saved: Saved, tmp_path: Path) -> None:
    tab.predict(saved.images[0])
    (tmp_path / "text.jpg").write_text("no picture")
    tab.drop(tmp_path / "text.jpg")
    tab.wait(lambda: "not a supported picture" in tab.text("status"))
    assert tab.has_error
    assert tab.picture == ""
    assert tab.text("caption") == ""
    (tmp_path / "heavy.jpg").write_bytes(bytes(2_100_000))
    tab.drop(tmp_path / "heavy.jpg")
    tab.wait(lambda: tab.text("status") == "heavy.jpg has 2.1 MB; the limit is 1 MB.")
    tab.predict(saved.images[1])
    assert not tab.has_error


def test_a_server_that_is_gone(open_tab: Callable[..., Tab], saved: Saved) -> None:
    with serve(saved) as gone:
        tab = open_tab(gone.url)
    tab.drop(saved.images[0])
    tab.wait(lambda: tab.text("status") == "The server does not answer.")
    assert tab.has_error


def test_only_the_last_picture_is_shown(tab: Tab, page: ServedPage, saved: Saved) -> None:
    page.predictor.may_predict.clear()
    try:
        tab.drop(saved.images[0])
        tab.wait(lambda: page.predictor.predicted[-1:] == (saved.images[0].name,))
        tab.drop(saved.images[1])
    finally:
        page.predictor.may_predict.set()
    tab.wait(lambda: tab.rows)
    assert tab.text("status").startswith(f"{saved.images[1].name}: ")


def test_two_users_at_once(open_tab: Callable[..., Tab], saved: Saved) -> None:
    tabs = open_tab(), open_tab()
    for each, image in zip(tabs, saved.images, strict=False):
        each.drop(image)
    for each, image in zip(tabs, saved.images, strict=False):
        each.wait(lambda each=each: each.rows)
        assert each.text("status").startswith(f"{image.name}: ")


def test_a_picture_of_50_megapixels(tab: Tab, tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6250), (90, 120, 30)).save(tmp_path / "large.jpg", quality=30)
    tab.predict(tmp_path / "large.jpg")
    expected = "Scaled down from 8000 × 6250 to 505 × 395 pixels"  # noqa: RUF001
    assert tab.text("times").startswith(expected)


# Files, phones and keyboards


def test_results_can_be_saved(tab: Tab, page: ServedPage, saved: Saved, tmp_path: Path) -> None:
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    tab.browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    tab.predict(saved.images[0])
    tab.slide("score", 0.5)
    files = {
        kind: tmp_path / f"{saved.images[0].stem}_prediction.{kind}" for kind in ("json", "png")
    }
    for kind, path in files.items():
        tab.find(f"#save-{kind}")[0].click()
        tab.wait(path.is_file)
    truth = page.predictor(str(saved.images[0])).to_json() | {"file_name": saved.images[0].name}
    truth["instances"] = [each for each in truth["instances"] if each["score"] >= 0.5]
    segments = truth["segments_info"]
    truth["segments_info"] = [each for each in segments if each.get("score", 1) >= 0.5]
    assert json.loads(files["json"].read_text()) == truth
    picture = Image.open(files["png"])
    assert picture.width == 1280
    assert picture.height > 960  # the caption is below


def test_phones(tab: Tab, saved: Saved) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    tab.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        tab.browser.refresh()
        tab.wait(lambda: tab.find("#layers input"))
        tab.predict(saved.images[0])
        double = "const list = document.getElementById('examples');"
        tab.run(double + "list.append(...[...list.children].map((e) => e.cloneNode(true)))")
        assert tab.run("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        script = "const e = document.querySelector(arguments[0]).getBoundingClientRect();"
        script += "return [e.left, e.top, e.right, e.bottom]"
        for selector in ("#picture", "#caption", "#status"):
            left, top, right, bottom = tab.run(script, selector)
            assert 0 <= left < right <= 390, selector
            assert 0 <= top < bottom <= 844, selector
        long = "a very long caption of many words and a" + "very" * 40 + " long one"
        tab.run("document.getElementById('caption').textContent = arguments[0]", long)
        assert tab.run(
            "const e = document.getElementById('caption'); return e.scrollWidth <= e.clientWidth"
        )
    finally:
        tab.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_has_a_name_for_screen_readers(tab: Tab, saved: Saved) -> None:
    tab.predict(saved.images[0])
    controls = tab.find("button, input, canvas, img, summary, section")
    shown = [e for e in controls if e.is_displayed() and e.get_attribute("alt") != ""]
    assert len(shown) > 20
    assert [e.get_attribute("outerHTML") for e in shown if not e.accessible_name] == []
    (picture,) = tab.find("#picture")
    assert picture.accessible_name.startswith(saved.images[0].name)
    assert tab.find("#status")[0].aria_role == "status"
    assert {e.accessible_name for e in tab.find("input[type=range]")} == {
        *("Score threshold", "Opacity of areas")
    }


# Attacks


def test_nothing_is_loaded_from_elsewhere(tab: Tab, page: ServedPage, saved: Saved) -> None:
    tab.predict(saved.images[0])
    messages = [json.loads(e["message"])["message"] for e in tab.browser.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert len(urls) > 10
    own = (page.url, "data:", "blob:", "chrome:")
    assert [url for url in urls if url.startswith(("http", "ws")) and page.url in url]
    assert [url for url in urls if not url.startswith(own) and "127.0.0.1" not in url] == []
    refused = [e["message"] for e in tab.browser.get_log("browser") if "Policy" in e["message"]]
    assert refused == []


def test_the_policy_stops_scripts(tab: Tab) -> None:
    attacks = [
        """document.body.innerHTML = '<img src=x onerror="window.attacked = 1">';""",
        """document.body.setAttribute('onclick', 'window.attacked = 1');""",
        """document.createElement('script').text = 'window.attacked = 1';""",
        """document.createElement('script').src = 'https://evil.example/x.js';""",
    ]
    for attack in attacks:
        script = f"try {{ {attack} return 'done'; }} catch (error) {{ return error.name; }}"
        assert tab.run(script) == "TypeError", attack
    inline = """
        const script = document.createElement('script');
        script.append('window.attacked = 1');
        document.body.append(script);
        return window.attacked ?? null;
    """
    assert tab.run(inline) is None


def test_names_are_text(tab: Tab) -> None:
    script = """
        const name = '<img src=x onerror="window.attacked = 1">.png';
        document.createElement('canvas').toBlob((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], name, { type: 'image/png' }));
          dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true }));
        });
    """
    tab.run(script)
    tab.wait(lambda: tab.rows)
    assert tab.text("status").startswith("<img src=x onerror=")
    assert tab.run("return window.attacked ?? null") is None


EVIL = b"""<!DOCTYPE html><title>waiting</title><iframe id="frame" src="TARGET"></iframe><script>
const attacks = [
  fetch("TARGETpredict", { method: "POST", body: "x", mode: "no-cors" }),
  fetch("TARGETpredict", { method: "POST", body: "x" }),
  fetch("TARGETcard"),
  new Promise((done, fail) => {
    const script = document.createElement("script");
    Object.assign(script, { src: "TARGETpage.js", onload: done, onerror: fail });
    document.head.append(script);
  }),
  new Promise((done, fail) => {
    const image = new Image();
    Object.assign(image, { src: "TARGETexamples/0/thumbnail", onload: done, onerror: fail });
  }),
];
Promise.allSettled(attacks).then((results) => {
  document.title = results.map(({ status }) => status).join(" ");
});
</script>"""


def test_another_site_cannot_use_the_page(page: ServedPage, chromium: Any) -> None:
    evil = EVIL.replace(b"TARGET", page.url.encode())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(evil)

    count = len(page.predictor.predicted)
    (home,) = chromium.window_handles
    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium.switch_to.new_window("tab")
        chromium.get(f"http://localhost:{server.server_port}/")
        for _ in range(SECONDS * 10):
            if chromium.title != "waiting":
                break
            threading.Event().wait(0.1)
        title = chromium.title
        chromium.switch_to.frame("frame")
        framed = chromium.find_elements("css selector", "#drop")
        chromium.switch_to.default_content()
        chromium.close()
        chromium.switch_to.window(home)
        server.shutdown()
    assert set(title.split()) == {"rejected"}, title
    assert framed == []
    assert len(page.predictor.predicted) == count


def test_the_token_opens_the_page(open_tab: Callable[..., Tab], saved: Saved) -> None:
    with serve(saved, token="secret") as page:
        tab = open_tab(f"{page.url}?token=secret")
        assert tab.browser.current_url == page.url  # no token in the address
        tab.predict(saved.images[0])
        tab.browser.delete_all_cookies()
        tab.drop(saved.images[1])
        tab.wait(lambda: tab.text("status").startswith("Open the address with the token"))
