"""Select a few COCO images that a small network can overfit: a test of all tasks at once.

    python datasets/prepare_overfit.py           # 8 images of COCO below DETECTRON2_DATASETS
    python train_net.py --config-file configs/quick/overfit.yaml OUTPUT_DIR output/overfit

The first images, by id, whose objects all have sides of at least 32 pixels after resizing are
copied to DETECTRON2_DATASETS/overfit, with their objects, their first caption, and a semantic map
of the things (stuff is ignored). They are the data set coco_overfit.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from yolor_d2.compat import dataset_root
from yolor_d2.data.catalog.categories import COCO_THINGS, IGNORE_LABEL
from yolor_d2.data.files.semantic_files import write_index_png

Json = dict[str, Any]

MIN_SIDE = 32


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=8, help="number of images")
    parser.add_argument("--size", type=int, default=256, help="long side of the network's input")
    args = parser.parse_args(argv)
    root = dataset_root()
    try:
        chosen = choose(list(candidates(root / "coco", size=args.size)), number=args.number)
        write(chosen, root / "overfit")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    objects = sum(len(entry["annotations"]) for entry in chosen)
    print(f"{root / 'overfit'}: {len(chosen)} images with {objects} objects")


def candidates(coco: Path, *, size: int) -> Iterator[Json]:
    """Yield images that exist, have a caption, and only large objects and no crowds."""
    for split in ("val2017", "train2017"):
        path = coco / "annotations" / f"instances_{split}.json"
        if not path.is_file():
            continue
        instances = json.loads(path.read_text())
        captions = json.loads((path.parent / f"captions_{split}.json").read_text())
        texts = {a["image_id"]: a for a in reversed(captions["annotations"])}
        objects: dict[int, list[Json]] = {}
        for annotation in instances["annotations"]:
            objects.setdefault(annotation["image_id"], []).append(annotation)
        for image in sorted(instances["images"], key=lambda image: image["id"]):
            file = coco / split / image["file_name"]
            own = objects.get(image["id"], [])
            scale = size / max(image["width"], image["height"])
            if image["id"] in texts and all_large(own, scale) and file.is_file():
                yield {
                    "file": file,
                    "image": image,
                    "annotations": own,
                    "caption": texts[image["id"]],
                    "categories": instances["categories"],
                }


def all_large(annotations: Sequence[Json], scale: float) -> bool:
    """Whether there are objects, and all are large enough after scaling the image."""
    return bool(annotations) and all(
        not a["iscrowd"] and min(a["bbox"][2:]) * scale >= MIN_SIDE for a in annotations
    )


def choose(found: Sequence[Json], *, number: int) -> Sequence[Json]:
    """Return the first images; raise an error if there are too few."""
    if len(found) < number:
        raise ValueError(
            f"{dataset_root() / 'coco'} has {len(found)} images with large objects only and with "
            f"instances and captions; {number} are needed (datasets/README.md lists the files)"
        )
    return found[:number]


def write(chosen: Sequence[Json], output: Path) -> None:
    """Write a data set in COCO's formats, replacing an existing one."""
    shutil.rmtree(output, ignore_errors=True)
    for folder in ("images", "annotations", "semantic"):
        (output / folder).mkdir(parents=True)
    for entry in chosen:
        shutil.copy(entry["file"], output / "images")
        labels = thing_labels(entry["image"], entry["annotations"])
        write_index_png(output / "semantic" / f"{Path(entry['file']).stem}.png", labels)
    images = [entry["image"] for entry in chosen]
    objects = [annotation for entry in chosen for annotation in entry["annotations"]]
    captions = [entry["caption"] for entry in chosen]
    files = {
        "instances": {"annotations": objects, "categories": chosen[0]["categories"]},
        "captions": {"annotations": captions},
    }
    for name, content in files.items():
        path = output / "annotations" / f"{name}.json"
        path.write_text(json.dumps({"images": images, **content}))


def thing_labels(image: Json, annotations: Sequence[Json]) -> np.ndarray:
    """Return the class of the smallest object at each pixel, uint8 (height, width)."""
    height, width = image["height"], image["width"]
    labels = np.full((height, width), IGNORE_LABEL, np.uint8)
    for annotation in sorted(annotations, key=lambda a: -a["area"]):
        rles = coco_mask.frPyObjects(annotation["segmentation"], height, width)
        inside = coco_mask.decode(coco_mask.merge(rles)).astype(bool)
        labels[inside] = COCO_THINGS.id_to_index[annotation["category_id"]]
    return labels


if __name__ == "__main__":
    main()
