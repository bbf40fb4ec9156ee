"""Training data pipeline of ultralytics, for comparison.

ultralytics (AGPL-3.0) is an optional package, not a requirement of yolor_d2. Only its public
interface is used.
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
    "ultralytics is not installed and is skipped; `pip install ultralytics` in a separate "
    "environment (see docs/internals/performance.md), or pass --peer none"
)
BATCH_SIZE = 16
# ultralytics draws mosaic partners from a buffer of the last 8 batches. A data set that fits into
# the buffer would be read only once, so images of small data sets are linked under several names.
MIN_IMAGES = 1024
# Defaults of yolor_d2's strong view. overlap_mask=False: one mask per object.
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
    """Import ultralytics without network access and with its settings in a folder.

    Must be called before any other import of ultralytics.

    Returns:
        Its version, or None if it is not installed; then a line on stderr explains how to install.
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
    """Return a job that makes samples with boxes and masks, without semantic maps and captions.

    Args:
        records: data set dicts.
        class_names: object classes.
        size: side of the training image in pixels.
        samples: number of samples per call of the job.
        work: folder for temporary files.
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
    """Indices of random epochs, so that repeats do not reuse images in the buffer."""
    rng = np.random.default_rng(0)
    while True:
        yield from rng.permutation(images).tolist()


def write_labels(records: Sequence[Record], *, images: Path, labels: Path) -> None:
    """Write a folder of links to the images and a folder of label files with object polygons."""
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
    """Class and polygon of each object in relative coordinates; only the largest of its parts."""
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
