"""Label images with a network: write its predictions as a data set in COCO's formats.

    yolor-d2 label photos --weights output/model_final.pth --output labeled

IMAGES are images, folders, zip files of images, and labeled data as for `yolor-d2 train --data`.
The data set has the boxes, masks, captions, semantic and panoptic maps that the network predicts.
Objects with a score between the two thresholds are marked as crowds. Prints a line per image, then
the commands that check the labels and train on them. Only a complete data set is written. Exit code
1: some images could not be read; 2: labeling failed.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..errors import BadFileError, ImageError, print_error
from ..inference.labeling import (
    LabelWriter,
    check_inputs,
    check_output,
    summary_lines,
    write_labels,
)
from ..inference.labels import LabelClasses, Thresholds
from ..inference.output import milliseconds
from .errors import FAILED, one_line_errors
from .options import add_weights_options, load_predictor, positive
from .predict import print_line

DEFAULT = Thresholds()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="images, folders, zip files")
    add_weights_options(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DATA", help="folder of the data set"
    )
    thresholds = (
        ("score", "S", "score threshold of objects"),
        ("unsure", "U", "score threshold of unsure objects, which are marked as crowds"),
        ("pixel", "P", "minimum probability of pixels in semantic maps"),
    )
    for name, letter, text in thresholds:
        default = getattr(DEFAULT, name)
        parser.add_argument(
            f"--{name}-threshold",
            type=float,
            default=default,
            metavar=letter,
            help=f"{text} ({default})",
        )
    parser.add_argument(
        "--batch-size", type=positive, default=8, metavar="N", help="images per batch (8)"
    )
    parser.add_argument("--link", action="store_true", help="link images instead of copying them")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace existing labels in the output"
    )
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="of the configuration"
    )
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Label all images; returns the exit code."""
    args = make_parser().parse_args(arguments)
    thresholds = Thresholds(args.score_threshold, args.unsure_threshold, args.pixel_threshold)
    thresholds.check()
    check_inputs(args.images)
    check_output(args.output, args.images, overwrite=args.overwrite)
    predictor = load_predictor(args, score_threshold=thresholds.unsure, batch_size=args.batch_size)
    failures: list[BadFileError] = []

    def on_error(error: BadFileError) -> None:
        failures.append(error)
        with tqdm.external_write_mode(file=sys.stderr):
            print_error(error, is_last=False)

    writer = LabelWriter(
        args.output,
        LabelClasses.of(predictor),
        thresholds=thresholds,
        description={
            "weights": args.weights,
            "tasks": predictor.tasks,
            "thresholds": thresholds._asdict(),
        },
        link=args.link,
    )
    with writer:
        write_labels(predictor, args.images, writer, on_error=on_error, report=print_line)
    if writer.seconds:
        print_summary(writer, thresholds)
    if failures:
        print_error(ImageError(f"{len(failures)} of the images could not be read"))
        return FAILED
    return 0


def print_summary(writer: LabelWriter, thresholds: Thresholds) -> None:
    """Print what was written and the commands to type next."""
    count, time = len(writer.seconds), milliseconds(writer.seconds)
    print(f"{count} labeled images are in {writer.folder}, {time} ms an image")
    for line in summary_lines(writer):
        print(line)
    if writer.classes.things is not None and not writer.objects:
        print(f"no object has a score of {thresholds.score}: lower --score-threshold")
    data = shlex.quote(str(writer.folder))
    print(f"yolor-d2 check-data {data}")
    print(f"yolor-d2 train --data {data}")


if __name__ == "__main__":
    sys.exit(main())
