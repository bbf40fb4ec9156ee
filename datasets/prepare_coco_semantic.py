"""Make the semantic PNGs for training from one of three kinds of official COCO files.

    --stuffthingmaps DIR                    the official PNGs           -> 171 classes
    --stuff-json F --instances-json F       things over stuff           -> 171 classes
    --panoptic-json F --panoptic-dir DIR    the official panoptic PNGs  -> 133 classes

171 classes: 0..79 are the things and 80..170 the stuff leaves (banner .. wood); this is what the
semantic head of the COCO configs predicts. The panoptic files merge many leaves (94 branch and 169
tree are both "tree-merged"), so they only give the 133 panoptic classes: 0..79 things, 80..132
stuff. These need their own folder, with "panoptic" in its name.

Unlabeled pixels are 255. A categories.json beside the PNGs lists the classes. To continue an
interrupted run, give the same command again.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from yolor_d2.data.catalog.categories import COCO_LEAVES, COCO_PANOPTIC
from yolor_d2.data.catalog.semantic_sources import (
    SemanticSource,
    annotation_sources,
    panoptic_sources,
    stuffthing_sources,
    write_semantic_pngs,
)
from yolor_d2.errors import DataError

MAX_LISTED_FAILURES = 20
SOURCES = ("stuffthingmaps", "stuff_json", "instances_json", "panoptic_json", "panoptic_dir")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stuffthingmaps", type=Path, metavar="DIR", help="train2017 or val2017")
    parser.add_argument("--stuff-json", type=Path, metavar="FILE", help="stuff_*.json")
    parser.add_argument(
        "--instances-json",
        type=Path,
        metavar="FILE",
        help="instances_*.json; either JSON may be alone",
    )
    parser.add_argument("--panoptic-json", type=Path, metavar="FILE", help="panoptic_*.json")
    parser.add_argument("--panoptic-dir", type=Path, metavar="DIR", help="the folder of its PNGs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        required=True,
        help="coco/semantic_train2017, or coco/semantic_panoptic_train2017 for the panoptic source",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args(argv)
    kinds = {name.split("_")[0] for name in SOURCES if getattr(args, name) is not None}
    if kinds not in (
        {"stuffthingmaps"},
        {"stuff"},
        {"instances"},
        {"stuff", "instances"},
        {"panoptic"},
    ):
        parser.error("give exactly one source: stuffthingmaps, stuff and/or instances, or panoptic")
    if kinds == {"panoptic"} and not (args.panoptic_json and args.panoptic_dir):
        parser.error("--panoptic-json and --panoptic-dir belong together")
    if (kinds == {"panoptic"}) != ("panoptic" in args.output.name):
        parser.error('133 panoptic classes go to a folder with "panoptic" in its name, 171 do not')
    return args


def find_sources(args: argparse.Namespace) -> dict[str, SemanticSource]:
    if args.stuffthingmaps:
        return stuffthing_sources(args.stuffthingmaps)
    if args.panoptic_json:
        return panoptic_sources(panoptic_json=args.panoptic_json, panoptic_dir=args.panoptic_dir)
    return annotation_sources(stuff_json=args.stuff_json, instances_json=args.instances_json)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    categories = COCO_PANOPTIC if args.panoptic_json else COCO_LEAVES
    try:
        outcome = write_semantic_pngs(
            find_sources(args),
            output=args.output,
            categories=categories,
            made_from={n: getattr(args, n).name for n in SOURCES if getattr(args, n) is not None},
            workers=args.workers,
        )
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    except BrokenProcessPool:
        sys.exit("error: a worker was killed (out of memory?); run again with fewer --workers")
    complete = outcome.total - len(outcome.failures)
    print(
        f"{complete} of {outcome.total} images have their PNG of {len(categories)} classes in "
        f"{args.output} ({outcome.kept} from an earlier run)"
    )
    if outcome.failures:
        for reason in list(outcome.failures.values())[:MAX_LISTED_FAILURES]:
            print(reason, file=sys.stderr)
        sys.exit(f"error: {len(outcome.failures)} images failed")


if __name__ == "__main__":
    main()
