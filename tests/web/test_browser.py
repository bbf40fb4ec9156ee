"""The page in a real browser: Debian's chromium and chromium-driver, and selenium."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..saved_networks import Saved
from .pages import ServedPage

SECONDS = 40  # timeout on a busy machine
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
        self.wait(lambda: self.find("#upload input[type=file]"))

    def activate(self) -> None:
        self.browser.switch_to.window(self.handle)

    def find(self, selector: str) -> list[Any]:
        self.activate()
        return self.browser.find_elements("css selector", selector)

    def wait(self, condition: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, SECONDS).until(lambda _: condition())

    def drop(self, path: Path) -> None:
        """Upload a file, without waiting for the result."""
        self.wait(lambda: self.find("#upload input[type=file]"))[0].send_keys(str(path))

    def click(self, label: str) -> None:
        """Toggle a layer."""
        (box,) = [e for e in self.find("#layers label") if e.text.strip() == label]
        box.click()

    @property
    def note(self) -> str:
        return "".join(e.text for e in self.find("#note"))

    @property
    def picture(self) -> str:
        """Address of the picture; "" without one."""
        return "".join(e.get_attribute("src") for e in self.find("#picture img"))

    def text(self, name: str) -> str:
        fields = self.find(f"#{name} textarea, #{name} input")
        return "".join(e.get_attribute("value") for e in fields)

    def wait_for_picture(self, *, other_than: str = "") -> str:
        """Wait until a picture is loaded; returns its address."""
        self.wait(lambda: self.picture not in ("", other_than))
        script = (
            "let i = document.querySelector('#picture img'); return i.complete && i.naturalWidth"
        )
        self.wait(lambda: self.browser.execute_script(script))
        return self.picture


@pytest.fixture
def open_tab(page: ServedPage, chromium: Any) -> Iterator[Callable[[], Tab]]:
    """Opens tabs and closes them: each tab keeps one of six connections to a server."""
    (home,) = chromium.window_handles
    yield lambda: Tab(chromium, page.url)
    for handle in set(chromium.window_handles) - {home}:
        chromium.switch_to.window(handle)
        chromium.close()
    chromium.switch_to.window(home)


@pytest.fixture
def tab(open_tab: Callable[[], Tab]) -> Tab:
    return open_tab()


def test_a_picture_and_its_layers(tab: Tab, page: ServedPage, saved: Saved) -> None:
    tab.drop(saved.images[0])
    first = tab.wait_for_picture()
    truth = page.predictor(str(saved.images[0]))
    tab.wait(lambda: tab.text("caption") == truth.caption)
    assert tab.note == "160 x 120 pixels"
    assert [part.split()[0] for part in tab.text("times").split(", ")] == [
        *("reading", "network", "drawing")
    ]
    count = len(page.predictor.predicted)
    tab.click("boxes")
    second = tab.wait_for_picture(other_than=first)
    tab.click("boxes")
    assert tab.wait_for_picture(other_than=second) == first
    slider = tab.find("#opacity input[type=range]")[0]
    slider.send_keys("\ue012" * 3)  # the left arrow
    assert tab.wait_for_picture(other_than=first)
    assert len(page.predictor.predicted) == count


def test_a_text_file_named_like_a_picture(tab: Tab, saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    tab.drop(tmp_path / "text.jpg")
    tab.wait(lambda: "not a supported picture" in tab.note)
    assert tab.picture == ""
    assert tab.find("[data-testid=toast-body]") == []  # one error, not two
    tab.drop(saved.images[0])  # the page still works
    tab.wait_for_picture()
    assert tab.note == "160 x 120 pixels"


def test_two_users_at_once(open_tab: Callable[[], Tab], saved: Saved) -> None:
    tabs = open_tab(), open_tab()
    for each, image in zip(tabs, saved.images, strict=False):
        each.drop(image)
    stems = [image.stem for image in saved.images[:2]]
    before = []
    for each, stem in zip(tabs, stems, strict=True):
        before.append(each.wait_for_picture())
        assert before[-1].endswith(f"/{stem}_seen.jpg")
    for each in tabs:
        each.click("masks")
    for each, stem, old in zip(tabs, stems, before, strict=True):
        assert each.wait_for_picture(other_than=old).endswith(f"/{stem}_seen.jpg")


def test_a_picture_of_50_megapixels(tab: Tab, tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6250), (90, 120, 30)).save(tmp_path / "large.jpg", quality=30)
    tab.drop(tmp_path / "large.jpg")
    tab.wait_for_picture()
    assert tab.note == "Scaled down from 8000 x 6250 to 505 x 395 pixels."


def test_a_file_over_the_limit(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "heavy.jpg").write_bytes(bytes(2_000_000))
    tab.drop(tmp_path / "heavy.jpg")
    toast = "[data-testid=toast-body]"  # fades in
    tab.wait(lambda: any("size" in e.text for e in tab.find(toast)))


def test_results_can_be_saved(tab: Tab, saved: Saved, tmp_path: Path) -> None:
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    tab.browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    tab.drop(saved.images[0])
    tab.wait_for_picture()
    stem = saved.images[0].stem
    for button, name in (("json", f"{stem}.json"), ("picture", f"{stem}_seen.jpg")):
        tab.wait(lambda button=button: tab.find(f"#save-{button}")[0].is_enabled())
        tab.find(f"#save-{button}")[0].click()
        tab.wait(lambda name=name: (tmp_path / name).is_file())
    assert json.loads((tmp_path / f"{stem}.json").read_text())["width"] == 160
    assert Image.open(tmp_path / f"{stem}_seen.jpg").width >= 480


def test_nothing_is_loaded_from_elsewhere(tab: Tab, page: ServedPage, saved: Saved) -> None:
    tab.drop(saved.images[0])
    tab.wait_for_picture()
    messages = [json.loads(e["message"])["message"] for e in tab.browser.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert len(urls) > 20
    own = (page.url, "data:", "blob:", "chrome:")
    assert [url for url in urls if not url.startswith(own)] == []
    refused = [e["message"] for e in tab.browser.get_log("browser") if "Policy" in e["message"]]
    assert refused == []
