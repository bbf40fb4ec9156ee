"""The built-in data sets, below DETECTRON2_DATASETS (datasets/README.md)."""

import functools
import logging
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...compat import dataset_root
from ...errors import BadFileError, DataError
from ..files.contents import read_json
from ..files.images import image_size
from .categories import COCO_LEAVES, COCO_PANOPTIC, COCO_THINGS, LEAF_TO_PANOPTIC
from .datasets import register_coco_multitask
from .entries import entries

logger = logging.getLogger(__name__)

KARPATHY_SPLITS = ("train", "restval", "val", "test")


def register_all(root: Path) -> None:
    """Register every built-in data set; files are read when a data set is loaded."""
    for split in ("train", "val"):
        _register_coco(root / "coco", split)
    _register_overfit(root / "overfit")
    for split in KARPATHY_SPLITS:
        name = f"coco_karpathy_{split}"
        DatasetCatalog.register(name, functools.partial(load_karpathy, root / "coco", split))
        MetadataCatalog.get(name).set(
            image_root=str(root / "coco"),
            captions_json=str(root / "coco/dataset_coco.json"),
            evaluator_type="coco_multitask",
        )


def _register_coco(root: Path, split: str) -> None:
    """Register COCO 2017 with all annotations, and with each kind of annotation alone."""
    annotations = root / "annotations"
    captions = {"captions_json": annotations / f"captions_{split}2017.json"}
    instances = {
        "instances_json": annotations / f"instances_{split}2017.json",
        "things": COCO_THINGS,
    }
    semantic = {"sem_seg_root": root / f"semantic_{split}2017", "sem_seg": COCO_LEAVES}
    panoptic = {
        "panoptic_root": root / f"panoptic_{split}2017",
        "panoptic_json": annotations / f"panoptic_{split}2017.json",
        "panoptic": COCO_PANOPTIC,
        "leaf_to_panoptic": list(LEAF_TO_PANOPTIC),
    }
    variants: dict[str, dict[str, Any]] = {
        # With a partial download, training uses the annotations that exist.
        "multitask": instances | captions | semantic | panoptic | {"skip_missing": True},
        "captions": captions,
        "semantic171": semantic,
        "panoptic133": panoptic,
    }
    for suffix, files in variants.items():
        register_coco_multitask(f"coco_2017_{split}_{suffix}", root / f"{split}2017", **files)


def _register_overfit(root: Path) -> None:
    """Register a few images to overfit (datasets/prepare_overfit.py)."""
    register_coco_multitask(
        "coco_overfit",
        root / "images",
        instances_json=root / "annotations/instances.json",
        captions_json=root / "annotations/captions.json",
        sem_seg_root=root / "semantic",
        things=COCO_THINGS,
        sem_seg=COCO_THINGS,
    )


def load_karpathy(root: Path, split: str) -> list[dict[str, Any]]:
    """Load the captions of one of Karpathy's splits, from dataset_coco.json.

    The images are those of train2014 and val2014 if these folders exist, else those of COCO 2017,
    which has the same images in other folders.
    """
    path = root / "dataset_coco.json"
    fields = ("split", "filepath", "filename", "cocoid", "sentences")
    images = [e for e in entries(read_json(path), "images", path, fields) if e["split"] == split]
    if not images:
        raise DataError(f"{path}: has no image of the split {split}")
    val_2017 = {p.name for p in (root / "val2017").glob("*.jpg")}
    records = []
    unreadable: list[BadFileError] = []
    for entry in images:
        file = root / entry["filepath"] / entry["filename"]
        if not (root / entry["filepath"]).is_dir():
            name = f"{entry['cocoid']:012d}.jpg"
            file = root / ("val2017" if name in val_2017 else "train2017") / name
        try:
            width, height = image_size(str(file))
        except BadFileError as error:
            unreadable.append(error)
            continue
        records.append(
            {
                "file_name": str(file),
                "image_id": entry["cocoid"],
                "height": height,
                "width": width,
                "captions": [sentence["raw"] for sentence in entry["sentences"]],
            }
        )
    if unreadable:
        message = f"{len(unreadable)} images of {split} cannot be read, the first: {unreadable[0]}"
        if not records:
            raise DataError(message)
        logger.warning("%s", message)
    return records


register_all(dataset_root())
