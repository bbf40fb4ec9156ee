"""A network in the browser: drop a picture, see boxes, masks, maps and the caption.

    yolor-d2 web --weights output/model_final.pth

Needs Gradio: pip install 'yolor_d2[web]'. Only this machine sees the page, unless --host says
otherwise; docs/web.md says what is safe about it. Ctrl-C ends it.
"""

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..web.guard import LOOPBACK, Guard
from ..web.session import Network
from ..web.uploads import HARD_PIXELS
from .network_arguments import add_network_arguments, load_predictor

WRONG_USE = 2
HIGHEST_PORT = 65_535
LOWEST_SCORE = 0.05  # that the slider goes down to
MISSING = "Gradio is not installed: pip install 'yolor_d2[web]'"

# Whatever lets somebody in, or tells somebody, and is not needed here.
CLOSED: dict[str, Any] = {
    "share": False,
    "show_error": False,
    "allowed_paths": [],  # none but the folder, and the guard sees to it
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "strict_cors": True,
    "ssr_mode": False,
    "pwa": False,
    "mcp_server": False,
}


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_network_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: for everybody, no login")
    parser.add_argument("--port", type=partial(_whole, highest=HIGHEST_PORT), default=7860)
    parser.add_argument("--max-upload-mb", type=_positive, default=20, metavar="MB")
    parser.add_argument(
        "--max-pixels",
        type=partial(_whole, highest=HARD_PIXELS),
        default=4_000_000,
        metavar="N",
        help="larger pictures are scaled down first (default: 4000000)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 10000")
    return number


def _whole(text: str, *, highest: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number between 1 and {highest}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; the exit code."""
    args = parse_args(arguments)
    if importlib.util.find_spec("gradio") is None:
        print(f"web: {MISSING}", file=sys.stderr)
        return WRONG_USE
    try:
        predictor = load_predictor(args, score_threshold=LOWEST_SCORE, batch_size=1)
        network = Network(predictor, max_pixels=args.max_pixels)
        max_upload = int(args.max_upload_mb * 1e6)
        with serving(network, host=args.host, port=args.port, max_upload=max_upload) as url:
            print(f"The page is at {url}, Ctrl-C ends it", flush=True)
            if args.host not in LOOPBACK:
                print("Whoever reaches this machine can use it: there is no login", flush=True)
            wait_for_signal()
    except (ValueError, OSError) as error:
        print(f"web: {error}", file=sys.stderr)
        return WRONG_USE
    return 0


@contextmanager
def serving(network: Network, *, host: str, port: int, max_upload: int) -> Iterator[str]:
    """The page, served in a thread; its address.

    All files of the page are in a folder of its own, which goes when the page does.
    """
    with tempfile.TemporaryDirectory(prefix="yolor_d2_web_") as folder:
        prepare_gradio(folder)
        from starlette.middleware import Middleware

        from ..web.page import CSS, MAX_SESSIONS, Page, theme

        hosts = LOOPBACK if host in LOOPBACK else None
        guard = Middleware(Guard, files=folder, max_upload=max_upload, hosts=hosts)
        blocks = Page(network, Path(folder)).blocks
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
        except OSError:  # Gradio's own words are on variables that do not count here
            raise OSError(f"port {port} of {host} cannot be used") from None
        try:
            yield url
        finally:
            blocks.close(verbose=False)


def wait_for_signal() -> None:
    """Until Ctrl-C or SIGTERM, which ends services: both leave nothing behind."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()


def prepare_gradio(folder: str) -> None:
    """Settings that Gradio reads as it is imported; nobody's environment may open the page."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"


if __name__ == "__main__":
    sys.exit(main())
