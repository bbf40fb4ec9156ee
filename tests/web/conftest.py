"""Fixtures of the web page tests; the browser is Debian's chromium with chromium-driver."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..saved_networks import Saved
from .pages import ServedPage, serve
from .tab import Tab

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"),
    *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
)
LOGS = {"browser": "ALL", "performance": "ALL"}


@pytest.fixture(scope="module")
def page(saved: Saved) -> Iterator[ServedPage]:
    """The web page of a small network, served on this machine."""
    with serve(saved) as served:
        yield served


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
