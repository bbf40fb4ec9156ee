"""Serve a web page that shows boxes, masks, maps and the caption of uploaded pictures.

    yolor-d2 web --weights output/model_final.pth

Without --host, only this machine can open the page. With --host, use the printed address, which
contains a token. docs/guides/web.md describes the security. Ctrl-C stops the server.
"""

import argparse
import secrets
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..inference.predictor import Predictor
from ..web.access import LOOPBACK, Access, RateLimit
from ..web.card import network_card
from ..web.examples import Example, find_examples
from ..web.handler import Site
from ..web.prediction_queue import LOWEST_SCORE, PredictionQueue
from ..web.server import serving, wait_for_signal
from ..web.uploads import HARD_PIXELS
from .errors import one_line_errors
from .options import add_network_options, load_predictor, positive

HIGHEST_PORT = 65_535


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_network_options(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: other machines can connect with a token"
    )
    parser.add_argument(
        "--port", type=partial(_integer, highest=HIGHEST_PORT), default=7860, help="(7860)"
    )
    parser.add_argument(
        "--examples",
        type=Path,
        metavar="FOLDER",
        help="example pictures (default: from the network's data set, if only this machine can "
        "open the page)",
    )
    parser.add_argument(
        "--max-upload-mb",
        type=_megabytes,
        default=20,
        metavar="MB",
        help="maximum size of an upload (20)",
    )
    parser.add_argument(
        "--max-pixels",
        type=partial(_integer, highest=HARD_PIXELS),
        default=4_000_000,
        metavar="N",
        help="larger pictures are scaled down first (4000000)",
    )
    parser.add_argument(
        "--max-per-minute",
        type=positive,
        default=60,
        metavar="N",
        help="pictures per minute and address (60)",
    )
    return parser


def _megabytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 10000")
    return number


def _integer(text: str, *, highest: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"{text} is not an integer between 1 and {highest}")
    return int(text)


def make_site(args: argparse.Namespace, predictor: Predictor) -> Site:
    """Return what the page serves; only pages that others can open have a token."""
    is_local = args.host in LOOPBACK
    max_upload = int(args.max_upload_mb * 1e6)
    weights = Path(args.weights)
    return Site(
        queue=PredictionQueue(predictor, max_pixels=args.max_pixels),
        access=Access(LOOPBACK) if is_local else Access(None, secrets.token_urlsafe(24)),
        rate=RateLimit(args.max_per_minute),
        max_upload=max_upload,
        card=network_card(predictor, "/".join(weights.parts[-2:])),
        examples=_examples(args, predictor, max_upload),
    )


def _examples(args: argparse.Namespace, predictor: Predictor, max_upload: int) -> list[Example]:
    if args.examples is not None:
        return find_examples(args.examples, max_bytes=max_upload)
    root = predictor.metadata.get("image_root")
    if args.host not in LOOPBACK or not root:
        return []
    try:
        return find_examples(Path(root), max_bytes=max_upload)
    except (OSError, ValueError):  # the data are not on this machine
        return []


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    args = make_parser().parse_args(arguments)
    predictor = load_predictor(args, score_threshold=LOWEST_SCORE, batch_size=1)
    with serving(make_site(args, predictor), host=args.host, port=args.port) as url:
        print(f"The page is at {url}; Ctrl-C stops the server", flush=True)
        if args.host not in LOOPBACK:
            print("Everyone with this address can use it; nothing is encrypted", flush=True)
        wait_for_signal()
    return 0


if __name__ == "__main__":
    sys.exit(main())
