"""Serve a web page: upload a picture, and see boxes, masks, maps and the caption.

    yolor-d2 web --weights output/model_final.pth

Needs Gradio: pip install 'yolor_d2[web]'. Only this machine can open the page unless --host is set;
see docs/guides/web.md for its security. Ctrl-C stops the server.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from ..web.guard import LOOPBACK
from ..web.server import check_installed, serving, wait_for_signal
from ..web.session import LOWEST_SCORE, SharedPredictor
from ..web.uploads import HARD_PIXELS
from .errors import one_line_errors
from .options import add_network_options, load_predictor

HIGHEST_PORT = 65_535


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_network_options(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: all machines can connect, without login"
    )
    parser.add_argument("--port", type=partial(_integer, highest=HIGHEST_PORT), default=7860)
    parser.add_argument("--max-upload-mb", type=_megabytes, default=20, metavar="MB")
    parser.add_argument(
        "--max-pixels",
        type=partial(_integer, highest=HARD_PIXELS),
        default=4_000_000,
        metavar="N",
        help="larger pictures are scaled down first (default: 4000000)",
    )
    return parser


def _megabytes(text: str) -> float:
    number = float(text)
    if not 0 < number < 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 10000")
    return number


def _integer(text: str, *, highest: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"{text} is not an integer between 1 and {highest}")
    return int(text)


@one_line_errors("web")
def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    args = make_parser().parse_args(arguments)
    check_installed()
    predictor = load_predictor(args, score_threshold=LOWEST_SCORE, batch_size=1)
    shared = SharedPredictor(predictor, max_pixels=args.max_pixels)
    max_upload = int(args.max_upload_mb * 1e6)
    with serving(shared, host=args.host, port=args.port, max_upload=max_upload) as url:
        print(f"The page is at {url}; Ctrl-C stops the server", flush=True)
        if args.host not in LOOPBACK:
            print("Everyone who can connect to this machine can use it: no login", flush=True)
        wait_for_signal()
    return 0


if __name__ == "__main__":
    sys.exit(main())
