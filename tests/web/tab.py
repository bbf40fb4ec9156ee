"""The page in a browser tab."""

import hashlib
from pathlib import Path
from typing import Any

SECONDS = 60  # timeout on a busy machine


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
