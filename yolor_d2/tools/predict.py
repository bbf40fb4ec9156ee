"""Predict on images, folders, videos or cameras; draw the results and write JSON.

    yolor-d2 predict --weights output/model_final.pth --input photos --output predictions

Writes a picture with boxes, masks, maps and caption per image, a video per video, and
predictions.jsonl with a line per image or frame. Prints a line per image. Inputs can also be zip
files of images, and labeled data as for `yolor-d2 train --data`. Select a camera by number and a
stream by URL; Ctrl-C stops both. Exit code 1: some inputs could not be read; 2: prediction failed.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from ..errors import BadFileError, ImageError, print_error
from ..inference.output import Output, layers_to_draw, milliseconds, write_predictions
from ..visualization import LAYERS
from .errors import FAILED, one_line_errors
from .options import add_network_options, load_predictor


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_network_options(parser)
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help="images, folders, zip files, labeled data, videos, cameras, streams",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--layers", nargs="+", choices=LAYERS, help="layers to draw; default: all")
    parser.add_argument(
        "--opacity", type=float, default=0.5, metavar="O", help="opacity of masks and maps (0.5)"
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.25,
        metavar="S",
        help="score threshold of objects (0.25)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="images per batch (8)"
    )
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Predict on all inputs; returns the exit code."""
    args = make_parser().parse_args(arguments)
    # OpenCV would print several lines about each file that it cannot open.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(0)
    predictor = load_predictor(
        args, score_threshold=args.score_threshold, batch_size=args.batch_size
    )
    layers = layers_to_draw(args.layers or (), predictor.layers)
    failures: list[BadFileError] = []

    def on_error(error: BadFileError) -> None:
        failures.append(error)
        with tqdm.external_write_mode(file=sys.stderr):
            print_error(error, is_last=False)

    output = Output(args.output, inputs=args.input, layers=layers, opacity=args.opacity)
    with output:
        write_predictions(predictor, args.input, output, on_error=on_error, report=print_line)
    count = len(output.seconds)
    time = f", {milliseconds(output.seconds)} ms an image" if count else ""
    print_line(f"{count} predictions are in {args.output}{time}")
    if failures:
        print_error(ImageError(f"{len(failures)} of the inputs could not be read"))
        return FAILED
    return 0


def print_line(line: str) -> None:
    """Print a line above the progress bar; characters that the terminal lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(line.encode(encoding, "backslashreplace").decode(encoding))


if __name__ == "__main__":
    sys.exit(main())
