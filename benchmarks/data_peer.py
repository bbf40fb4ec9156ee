"""The training pipeline of ultralytics, for comparison; used by its public interface alone.

It is no part of yolor_d2 and no requirement: AGPL-3.0, to be installed by who wants the comparison.
"""

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from yolor_d2.data.loading.detectron2_mapper import seed_everything
from yolor_d2.data.views.reading import Record
from yolor_d2.data.views.targets import box_areas, outline_extent, read_outlines

from .timing import Job

HOW_TO_INSTALL = (
    "ultralytics is not here, so there is nothing to compare with; `pip install ultralytics`, best "
    "into an environment of its own (see docs/performance.md), or give --peer none"
)
BATCH_SIZE = 16
# It takes mosaic partners from the last 8 batches, held in memory. With fewer images than that it
# would read no files at all, so that few are linked under several names, as of a larger data set.
MIN_IMAGES = 1024
# What the strong view does by default. overlap_mask=False gives each object a mask of its own.
RECIPE = {
    "mosaic": 1.0,
    "mixup": 0.15,
    "copy_paste": 0.3,
    "scale": 0.9,
    "translate": 0.1,
    "degrees": 0.0,
    "shear": 0.0,
    "hsv_h": 0.015,
    "hsv_s": 0.7,
    "hsv_v": 0.4,
    "fliplr": 0.5,
    "overlap_mask": False,
    "mask_ratio": 4,
    "rect": False,
    "cache": False,
}


def prepare(config_folder: Path) -> str | None:
    """Let ultralytics neither load nor send anything, and write its settings to a folder.

    Must be called before anything else imports it.

    Returns:
        Its version; None where it is not installed, which is said in one line.
    """
    if find_spec("ultralytics") is None:
        print(HOW_TO_INSTALL, file=sys.stderr)
        return None
    config_folder.mkdir()
    os.environ |= {
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": str(config_folder),
    }
    import ultralytics

    ultralytics.settings.update({"sync": False})
    return ultralytics.__version__


def peer_job(
    records: Sequence[Record], class_names: Sequence[str], *, size: int, samples: int, work: Path
) -> Job:
    """Makes samples of the same images with boxes and masks; without semantic maps and captions.

    Args:
        records: data set dicts.
        class_names: of the objects.
        size: side of the training image, in pixels.
        samples: how many the job makes.
        work: a folder for its files.
    """
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    images = work / "images"
    write_labels(records, images=images, labels=work / "labels")
    dataset = build_yolo_dataset(
        get_cfg(overrides={"task": "segment", "imgsz": size, **RECIPE}),
        str(images),
        batch=BATCH_SIZE,
        data={"names": dict(enumerate(class_names)), "nc": len(class_names), "channels": 3},
        mode="train",
    )
    order = _random_order(len(dataset))
    seed_everything(0)

    def make_samples() -> None:
        for index in itertools.islice(order, samples):
            dataset[index]

    return make_samples


def _random_order(images: int) -> Iterator[int]:
    """Epoch after epoch, so that no repeat finds images of the one before in the buffer."""
    rng = np.random.default_rng(0)
    while True:
        yield from rng.permutation(images).tolist()


def write_labels(records: Sequence[Record], *, images: Path, labels: Path) -> None:
    """A folder of links to the images, and one of label files: a polygon for each object."""
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    copies = -(-MIN_IMAGES // len(records))
    for record in records:
        source = Path(record["file_name"]).resolve()
        lines = "".join(f"{line}\n" for line in _label_lines(record))
        for copy in range(copies):
            stem = f"{source.stem}_{copy}"
            (images / f"{stem}{source.suffix}").symlink_to(source)
            (labels / f"{stem}.txt").write_text(lines, encoding="utf-8")


def _label_lines(record: Record) -> list[str]:
    """Class and corners of each object, as shares of the image; the largest of several parts."""
    width, height = record["width"], record["height"]
    lines = []
    for annotation in record["annotations"]:
        if annotation.get("iscrowd", 0) or "segmentation" not in annotation:
            continue
        outlines = read_outlines(annotation["segmentation"], width=width, height=height)
        areas = box_areas(np.stack([outline_extent([outline]) for outline in outlines]))
        ring = outlines[int(areas.argmax())][0] / [width, height]
        values = " ".join(f"{value:.6f}" for value in ring.clip(0, 1).reshape(-1).tolist())
        lines.append(f"{annotation['category_id']} {values}")
    return lines
