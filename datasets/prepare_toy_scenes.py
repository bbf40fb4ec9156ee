#!/usr/bin/env python
"""Generate the toy scenes data set: `python datasets/prepare_toy_scenes.py --help`."""

import argparse
import os
import sys
from pathlib import Path

from yolor_d2.toy_scenes.dataset import MARKER, generate_toy_scenes


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; the names are those of `generate_toy_scenes`."""
    root = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parent))
    parser = argparse.ArgumentParser(
        description="Generate colored shapes in landscapes, with all of COCO's annotations.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--output", type=Path, default=root / "toy_scenes", help="folder to write to"
    )
    numbers = {
        "train": (2000, "number of training images"),
        "val": (200, "number of validation images"),
        "seed": (0, "random seed"),
        "workers": (os.cpu_count() or 1, "worker processes; 0 uses this process"),
        "width": (320, "width of the images in pixels"),
        "height": (240, "height of the images in pixels"),
        "min-size": (12, "smallest longer side of an object in pixels"),
        "max-size": (200, "largest longer side of an object in pixels"),
        "max-objects": (8, "largest number of objects in an image"),
    }
    for name, (default, text) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=text)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Generate the data set; return the exit code."""
    options = vars(parse_arguments(arguments))
    if (options["output"] / MARKER).is_file():
        print(f"{options['output']} has toy scenes; those of other arguments are replaced")
    try:
        generate_toy_scenes(**options, keep=True)
    except (ValueError, OSError) as error:
        print(f"prepare_toy_scenes: {error}", file=sys.stderr)
        return 2
    print(f"{options['train']} + {options['val']} images in {options['output']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
