"""Data sets for benchmarks: COCO images or toy scenes, with annotations of all tasks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.data.catalog.categories import COCO_LEAVES
from yolor_d2.data.catalog.datasets import register_coco_multitask
from yolor_d2.data.catalog.semantic_sources import annotation_sources, write_semantic_pngs
from yolor_d2.data.files.contents import read_json
from yolor_d2.errors import DataError
from yolor_d2.toy_scenes.dataset import STUFF_CLASSES, THING_CLASSES, generate_toy_scenes

NAME = "yolor_d2_benchmark"
ASPECT = 0.75  # height / width of toy scenes


@contextmanager
def coco_set(folder: Path, *, images: int, work: Path) -> Iterator[str]:
    """Register the first images of COCO train2017 in the catalog while the context is open.

    Semantic maps contain only things, because instances_train2017.json has no stuff.

    Args:
        folder: contains train2017/ and annotations/{instances,captions}_train2017.json.
        images: maximum number of images.
        work: empty folder for temporary files.
    """
    for kind in ("instances", "captions"):
        content = read_json(folder / f"annotations/{kind}_train2017.json")
        content["images"] = sorted(content["images"], key=lambda image: image["id"])[:images]
        chosen = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in chosen]
        (work / f"{kind}.json").write_text(json.dumps(content), encoding="utf-8")
    outcome = write_semantic_pngs(
        annotation_sources(instances_json=work / "instances.json"),
        output=work / "semantic",
        categories=COCO_LEAVES,
        made_from={"instances_json": "instances_train2017.json"},
        workers=1,
    )
    if outcome.failures:
        raise DataError(next(iter(outcome.failures.values())))
    register_coco_multitask(
        NAME,
        folder / "train2017",
        instances_json=work / "instances.json",
        captions_json=work / "captions.json",
        sem_seg_root=work / "semantic",
        sem_seg=COCO_LEAVES,
    )
    with _removed_from_catalog():
        yield NAME


@contextmanager
def toy_set(*, images: int, width: int, work: Path) -> Iterator[str]:
    """Register generated toy scenes in the catalog while the context is open."""
    generate_toy_scenes(
        work / "toy",
        train=images,
        val=0,
        width=width,
        height=round(ASPECT * width),
        progress=False,
    )
    annotations = work / "toy/annotations"
    register_coco_multitask(
        NAME,
        work / "toy/train",
        instances_json=annotations / "instances_train.json",
        captions_json=annotations / "captions_train.json",
        sem_seg_root=annotations / "semantic_train",
        sem_seg=[*THING_CLASSES, *STUFF_CLASSES],
    )
    with _removed_from_catalog():
        yield NAME


@contextmanager
def _removed_from_catalog() -> Iterator[None]:
    try:
        yield
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
