"""Pictures and JSON of what a network says about images, folders, videos and cameras.

    python -m yolor_d2.tools.predict --weights output/model_final.pth --input photos --output seen

Writes each picture with boxes, masks, maps and the caption, a video for a video, and
predictions.jsonl: a line for each image or frame. A camera is given by its number, a stream by its
URL; Ctrl-C ends both. Exit code 1: some inputs could not be used; 2: nothing could be done.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import cv2
from tqdm import tqdm

from ..data.errors import BadFileError
from ..inference.media import Media, OnError, open_media
from ..inference.output import Output
from ..inference.predictor import Predictor
from ..visualization import LAYERS, compatible_layers
from .network_arguments import add_network_arguments, load_predictor

FAILED, WRONG_USE = 1, 2


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_network_arguments(parser)
    parser.add_argument(
        "--input", nargs="+", required=True, help="images, folders, videos, cameras, streams"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--layers", nargs="+", choices=LAYERS, help="what is drawn")
    parser.add_argument("--opacity", type=float, default=0.5, metavar="O", help="of masks and maps")
    parser.add_argument("--score-threshold", type=float, default=0.25, metavar="S")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict on all inputs; the exit code."""
    args = parse_args(arguments)
    # OpenCV's own words on what it cannot open; ours are one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(0)
    try:
        predictor = load_predictor(
            args, score_threshold=args.score_threshold, batch_size=args.batch_size
        )
        layers = choose_layers(args.layers or (), predictor.layers)
        output = Output(args.output, inputs=args.input, layers=layers, opacity=args.opacity)
        with output:
            failures = predict_all(predictor, args.input, output)
    except (ValueError, OSError) as error:
        say(error)
        return WRONG_USE
    print(f"{output.count} predictions are in {args.output}")
    if failures:
        say(f"{failures} of the inputs could not be used")
    return FAILED if failures else 0


def choose_layers(wanted: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """What is drawn: what somebody wants, else all that the network fills, one map of the two."""
    if missing := [layer for layer in wanted if layer not in known]:
        raise ValueError(
            f"layers {', '.join(missing)}: not of this network, which fills {', '.join(known)}"
        )
    return wanted or compatible_layers(known)


def predict_all(predictor: Predictor, inputs: Sequence[str], output: Output) -> int:
    """Write what is seen in all inputs; how many images, folders or videos could not be used."""
    failures = 0

    def on_error(error: BadFileError) -> None:
        nonlocal failures
        failures += 1
        with tqdm.external_write_mode(file=sys.stderr):
            say(error)

    for media in open_all(inputs, on_error):
        predictions = predictor.stream(media, on_error=on_error)
        with output.sink(media) as sink, tqdm(total=media.count, disable=None) as bar:
            try:
                for prediction in predictions:
                    sink(prediction)
                    bar.update()
            except KeyboardInterrupt:  # the only way to end what has no end
                if media.kind != "live":
                    raise
    return failures


def open_all(inputs: Sequence[str], on_error: OnError) -> Iterator[Media]:
    """Videos, cameras and streams one by one, then all images together, in full batches."""
    stills: list[Media] = []
    for name in inputs:
        is_camera = name.isdecimal() and not Path(name).exists()
        try:
            media = open_media(int(name) if is_camera else name)
        except BadFileError as error:
            on_error(error)
            continue
        if media.kind in ("image", "images"):
            stills.append(media)
        else:
            yield media
    if stills:
        yield Media(
            lambda on_error: chain.from_iterable(media.pictures(on_error) for media in stills),
            kind="images",
            count=sum(media.count or 0 for media in stills),
        )


def say(problem: object) -> None:
    print(f"demo: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
