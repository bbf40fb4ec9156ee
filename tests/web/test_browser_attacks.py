"""Attacks on the page in a real browser."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..saved_networks import Saved
from .pages import ServedPage, free_port, serve
from .tab import SECONDS, Tab


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
