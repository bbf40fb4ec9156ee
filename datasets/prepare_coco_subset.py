"""Cut a small part of COCO, for trials: a folder that `yolor-d2 train --data` reads.

    python datasets/prepare_coco_subset.py --output datasets/coco_small --number 100
    python datasets/prepare_coco_subset.py --output datasets/coco_small --ids FILE

COCO is in DETECTRON2_DATASETS. Takes the first images of each split by id, or those in FILE, which
is JSON: {"train2017": [ids], "val2017": [ids]}. Images are copied, with their objects and captions.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolor_d2.compat import dataset_root

SPLITS = ("train2017", "val2017")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--number", type=int, help="number of images of each split")
    choice.add_argument("--ids", type=Path, metavar="FILE", help="ids of the images of each split")
    args = parser.parse_args(argv)
    try:
        ids = json.loads(args.ids.read_text()) if args.ids else {}
        (args.output / "annotations").mkdir(parents=True)
        for split in SPLITS:
            number = cut(split, args.output, ids=ids.get(split), number=args.number)
            print(f"{args.output / split}: {number} images")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def cut(split: str, output: Path, *, ids: Sequence[int] | None, number: int | None) -> int:
    """Write a part of a split; returns its number of images."""
    coco = dataset_root() / "coco"
    instances = _read(coco / "annotations" / f"instances_{split}.json")
    by_id = {image["id"]: image for image in instances["images"]}
    chosen = sorted(by_id)[:number] if ids is None else ids
    kept, missing = set(chosen), [each for each in chosen if each not in by_id]
    if missing:
        raise ValueError(f"{coco}: instances_{split}.json has no image {missing[0]}")
    (output / split).mkdir()
    for each in chosen:
        shutil.copy(coco / split / by_id[each]["file_name"], output / split)
    captions = _read(coco / "annotations" / f"captions_{split}.json")
    for name, content in (("instances", instances), ("captions", captions)):
        part = content | {
            "images": [by_id[each] for each in chosen],
            "annotations": [a for a in content["annotations"] if a["image_id"] in kept],
        }
        path = output / "annotations" / f"{name}_{split}.json"
        path.write_text(json.dumps(part))
    return len(chosen)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


if __name__ == "__main__":
    main()
