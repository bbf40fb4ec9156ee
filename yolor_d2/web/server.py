"""The server of the web page: Gradio behind the guard, with its own temporary folder."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .guard import LOOPBACK, Guard
from .session import SharedPredictor

# Features of Gradio that open the page to others or report its use.
CLOSED: dict[str, Any] = {
    "share": False,
    "show_error": False,
    "allowed_paths": [],  # only the temporary folder, and the guard checks that
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "strict_cors": True,
    "ssr_mode": False,
    "pwa": False,
    "mcp_server": False,
}


def check_installed() -> None:
    """Raise a ValueError if Gradio is missing."""
    if find_spec("gradio") is None:
        raise ValueError("Gradio is not installed: pip install 'yolor_d2[web]'")


@contextmanager
def serving(predictor: SharedPredictor, *, host: str, port: int, max_upload: int) -> Iterator[str]:
    """Serve the page in a thread, and delete all its files at the end.

    Args:
        predictor: predictor of uploaded pictures.
        host, port: address to listen on.
        max_upload: largest upload in bytes.

    Yields:
        The URL of the page.
    """
    with tempfile.TemporaryDirectory(prefix="yolor_d2_web_") as folder:
        prepare_gradio(folder)
        from starlette.middleware import Middleware

        from .page import CSS, MAX_SESSIONS, Page, theme

        hosts = LOOPBACK if host in LOOPBACK else None
        guard = Middleware(Guard, files=folder, max_upload=max_upload, hosts=hosts)
        blocks = Page(predictor, Path(folder)).blocks
        try:
            _, url, _ = blocks.launch(
                server_name=host,
                server_port=port,
                max_file_size=max_upload,
                state_session_capacity=MAX_SESSIONS,
                app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None},
                quiet=True,
                prevent_thread_lock=True,
                theme=theme(),
                css=CSS,
                **CLOSED,
            )
        except OSError:  # Gradio's message is about variables that are not used here
            raise OSError(f"port {port} of {host} cannot be used") from None
        try:
            yield url
        finally:
            blocks.close(verbose=False)


def wait_for_signal() -> None:
    """Wait for SIGINT (Ctrl-C) or SIGTERM, so that either ends with a cleanup."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()


def prepare_gradio(folder: str) -> None:
    """Set the variables that Gradio reads when imported; GRADIO_* of the environment are removed.

    Args:
        folder: folder of all files.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
