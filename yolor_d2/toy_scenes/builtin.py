"""Registers the toy scenes below DETECTRON2_DATASETS."""

from pathlib import Path

from ..compat import dataset_root
from ..data.catalog.categories import Categories
from ..data.catalog.datasets import register_coco_multitask
from .claims import read_caption_checkers
from .coco import panoptic_categories


def register_toy_scenes(name: str, root: Path, split: str) -> None:
    """Register the "train" or "val" split of toy scenes in a folder."""
    entries = panoptic_categories()
    things = Categories.from_coco(entry for entry in entries if entry["isthing"])
    leaves = Categories.from_coco(entries)
    register_coco_multitask(
        name,
        root / split,
        instances_json=root / f"annotations/instances_{split}.json",
        captions_json=root / f"annotations/captions_{split}.json",
        sem_seg_root=root / f"annotations/semantic_{split}",
        panoptic_root=root / f"annotations/panoptic_{split}",
        panoptic_json=root / f"annotations/panoptic_{split}.json",
        things=things,
        sem_seg=leaves,
        panoptic=leaves,
        leaf_to_panoptic=list(range(len(leaves))),
        sixth_captions_json=str(root / f"annotations/captions_sixth_{split}.json"),
        scenes_json=str(root / f"annotations/scenes_{split}.json"),
        read_judges=read_caption_checkers,  # a documented key
    )


def register_all(root: Path) -> None:
    """Register the built-in data sets toy_scenes_train and toy_scenes_val."""
    for split in ("train", "val"):
        register_toy_scenes(f"toy_scenes_{split}", root / "toy_scenes", split)


register_all(dataset_root())
