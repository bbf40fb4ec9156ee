"""Makes semantic PNGs from the official COCO files, in parallel and resumable.

Sources are the stuffthingmaps PNGs, or the stuff and instances JSONs, both with the 171 leaves, or
the panoptic PNGs, in which stuff leaves are merged to 133 panoptic classes.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util
from tqdm import tqdm

from ...errors import BadFileError, DataError, LabelError
from ...files import replace_file
from ..files.contents import read_json
from ..files.semantic_files import CLASS_FILE, png_size, read_index_png, write_index_png
from .categories import (
    COCO_LEAVES,
    COCO_PANOPTIC,
    IGNORE_LABEL,
    Categories,
    stuffthing_to_leaf_table,
)
from .entries import entries

_OTHER_ID = 183  # "other" of the stuff annotations: everything that is not stuff
_REGION_FIELDS = ("id", "image_id", "category_id", "segmentation")
_BATCH = 2048  # images


class SemanticSource(Protocol):
    """Source of the semantic map of one image."""

    def size(self) -> tuple[int, int] | None:
        """Return (height, width); None if the source cannot be read."""

    def labels(self) -> np.ndarray:
        """Return the map, uint8 (height, width); raise DataError or BadFileError."""


@dataclass(frozen=True)
class _StuffThingMap:
    path: str

    def size(self) -> tuple[int, int] | None:
        return png_size(self.path)

    def labels(self) -> np.ndarray:
        values = read_index_png(self.path)
        labels = stuffthing_to_leaf_table()[values]
        unknown = set(np.unique(values[labels == IGNORE_LABEL])) - {255, _OTHER_ID - 1}
        if unknown:
            raise LabelError(
                f"{self.path}: pixel value {min(unknown)} is not a category id less one"
            )
        return labels


class _Image(NamedTuple):
    name: str
    height: int
    width: int


class _Region(NamedTuple):
    """Segmentation of an annotation; workers decode it when they need the mask."""

    file: str
    annotation_id: int
    category_id: int
    segmentation: Any

    @property
    def origin(self) -> str:
        return f"{self.file}: annotation {self.annotation_id}"

    def mask(self, *, height: int, width: int) -> np.ndarray:
        shape = self.segmentation
        try:
            if isinstance(shape, list):
                polygons = [polygon for polygon in shape if len(polygon) >= 6]
                shape = mask_util.merge(mask_util.frPyObjects(polygons, height, width))
            elif isinstance(shape["counts"], list):
                shape = mask_util.frPyObjects(shape, height, width)
            mask = mask_util.decode(shape).astype(bool)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise LabelError(f"{self.origin}: invalid segmentation ({error!r})") from None
        if mask.shape != (height, width):
            raise LabelError(f"{self.origin}: mask is {mask.shape}, its image {(height, width)}")
        return mask


@dataclass(frozen=True)
class _Annotations:
    height: int
    width: int
    regions: Sequence[_Region]

    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def labels(self) -> np.ndarray:
        labels = np.full(self.size(), IGNORE_LABEL, np.uint8)
        # Descending ids, so that things cover stuff, and lower ids higher ones.
        for region in sorted(self.regions, key=lambda region: -region.category_id):
            mask = region.mask(height=self.height, width=self.width)
            labels[mask] = COCO_LEAVES.id_to_index[region.category_id]
        return labels


@dataclass(frozen=True)
class _PanopticMap:
    path: str
    height: int
    width: int
    category_ids: Mapping[int, int]  # of segments

    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def labels(self) -> np.ndarray:
        try:
            colors = np.asarray(Image.open(self.path).convert("RGB"), np.uint32)
        except (OSError, SyntaxError, ValueError) as error:
            raise BadFileError(self.path, f"cannot be decoded ({error})") from None
        if colors.shape[:2] != self.size():
            raise LabelError(f"{self.path}: is {colors.shape[:2]}, in its JSON {self.size()}")
        segment_ids, inverse = np.unique(colors @ [1, 256, 256**2], return_inverse=True)
        known = {0: IGNORE_LABEL} | {
            segment: COCO_PANOPTIC.id_to_index[category]
            for segment, category in self.category_ids.items()
        }
        missing = set(segment_ids.tolist()) - known.keys()
        if missing:
            raise LabelError(f"{self.path}: segment {min(missing)} is not listed in the JSON")
        table = np.array([known[segment] for segment in segment_ids.tolist()], np.uint8)
        return table[inverse].reshape(self.size())


def stuffthing_sources(folder: Path) -> dict[str, SemanticSource]:
    """Return the maps of a folder of official stuffthingmaps, by file stem."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise DataError(f"{folder}: has no PNG files; give the folder train2017 or val2017")
    return {path.stem: _StuffThingMap(str(path)) for path in paths}


def annotation_sources(
    *, stuff_json: Path | None = None, instances_json: Path | None = None
) -> dict[str, SemanticSource]:
    """Return the maps of stuff and instance annotations, by image file stem.

    Things cover stuff, and lower category ids cover higher ones. Crowds are included, "other" is
    not. Without one of the files its pixels are unknown.
    """
    images: dict[int, _Image] = {}
    regions: dict[int, list[_Region]] = defaultdict(list)
    for path in (stuff_json, instances_json):
        if path is not None:
            content = read_json(path, object_hook=_shrink_annotation)
            _add_images(images, content, path)
            _add_regions(regions, content, path, images)
    return {
        image.name: _Annotations(image.height, image.width, regions.get(image_id, ()))
        for image_id, image in images.items()
    }


def panoptic_sources(*, panoptic_json: Path, panoptic_dir: Path) -> dict[str, SemanticSource]:
    """Return the maps of the 133 panoptic classes, by file stem."""
    if not panoptic_dir.is_dir():
        raise DataError(f"{panoptic_dir}: there is no such folder")
    images: dict[int, _Image] = {}
    content = read_json(panoptic_json)
    _add_images(images, content, panoptic_json)
    sources: dict[str, SemanticSource] = {}
    fields = ("image_id", "file_name", "segments_info")
    for annotation in entries(content, "annotations", panoptic_json, fields):
        image_id = annotation["image_id"]
        if image_id not in images:
            raise LabelError(
                f"{panoptic_json}: has an annotation of image {image_id}, which is not listed"
            )
        image = images[image_id]
        category_ids = {part["id"]: part["category_id"] for part in annotation["segments_info"]}
        unknown = set(category_ids.values()) - COCO_PANOPTIC.id_to_index.keys()
        if unknown:
            raise LabelError(
                f"{panoptic_json}: image {image_id}: unknown category id {min(unknown)}"
            )
        path = panoptic_dir / annotation["file_name"]
        sources[path.stem] = _PanopticMap(str(path), image.height, image.width, category_ids)
    return sources


def _shrink_annotation(entry: dict[str, Any]) -> dict[str, Any]:
    """Convert polygons to arrays, which take a fraction of the memory of lists."""
    shape = entry.get("segmentation")
    if shape is None:
        return entry
    if isinstance(shape, list):
        entry["segmentation"] = [np.asarray(polygon, np.float64) for polygon in shape]
    return {key: value for key, value in entry.items() if key in _REGION_FIELDS}


def _add_images(images: dict[int, _Image], content: Any, path: Path) -> None:
    for entry in entries(content, "images", path, ("id", "file_name", "height", "width")):
        image = _Image(Path(entry["file_name"]).stem, entry["height"], entry["width"])
        before = images.setdefault(entry["id"], image)
        if image != before:
            raise LabelError(f"{path}: image {entry['id']} is {image}, in the other file {before}")


def _add_regions(
    regions: dict[int, list[_Region]],
    content: Any,
    path: Path,
    images: Mapping[int, _Image],
) -> None:
    for entry in entries(content, "annotations", path, _REGION_FIELDS):
        region = _Region(str(path), entry["id"], entry["category_id"], entry["segmentation"])
        if entry["image_id"] not in images:
            raise LabelError(f"{region.origin}: there is no image {entry['image_id']}")
        if region.category_id in COCO_LEAVES.id_to_index:
            regions[entry["image_id"]].append(region)
        elif region.category_id != _OTHER_ID:
            raise LabelError(f"{region.origin}: unknown category id {region.category_id}")


class Outcome(NamedTuple):
    """Result of `write_semantic_pngs`."""

    total: int
    kept: int  # files that were complete before
    failures: dict[str, str]  # name -> reason; all other files are complete


def write_semantic_pngs(
    sources: Mapping[str, SemanticSource],
    *,
    output: Path,
    categories: Categories,
    made_from: Mapping[str, str],
    workers: int,
) -> Outcome:
    """Write the missing PNGs of a folder, and check all of them.

    A categories.json in the folder lists the classes and the source, so that a later run cannot mix
    two sources.

    Args:
        sources: source of each image, by the stem of its PNG.
        output: output folder; created if missing.
        categories: classes of the indices.
        made_from: names of the source files, stored in categories.json.
        workers: number of processes; 1 runs in this process.
    """
    _claim_folder(output, categories=categories, made_from=made_from)
    jobs = [
        _Job(str(output / f"{name}.png"), source)
        for name, source in sources.items()
        if not _is_done(output / f"{name}.png", source)
    ]
    progress = tqdm(
        _outcomes(jobs, workers), total=len(sources), initial=len(sources) - len(jobs), unit="image"
    )
    failures = {Path(job.path).stem: reason for job, reason in zip(jobs, progress, strict=True)}
    failures = {name: reason for name, reason in failures.items() if reason}
    for name, source in sources.items():
        if name not in failures and not _is_done(output / f"{name}.png", source):
            failures[name] = f"{output / name}.png: is missing or incomplete"
    return Outcome(total=len(sources), kept=len(sources) - len(jobs), failures=failures)


class _Job(NamedTuple):
    path: str
    source: SemanticSource


def _claim_folder(output: Path, *, categories: Categories, made_from: Mapping[str, str]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    path = output / CLASS_FILE
    rows = enumerate(zip(categories.ids, categories.names, strict=True))
    description = {
        "made_from": dict(made_from),
        "ignore_label": IGNORE_LABEL,
        "categories": [{"index": index, "id": id_, "name": name} for index, (id_, name) in rows],
    }
    if not path.exists():
        if any(output.glob("*.png")):
            raise DataError(f"{output}: has PNG files but no {CLASS_FILE}; choose a new folder")
        replace_file(path, json.dumps(description, indent=1).encode())
    elif json.loads(path.read_bytes()) != description:
        raise DataError(f"{path}: the folder was made from another source; choose a new one")


def _is_done(path: Path, source: SemanticSource) -> bool:
    size = png_size(path)
    return size is not None and size == source.size()


def _outcomes(jobs: Sequence[_Job], workers: int) -> Iterator[str | None]:
    if workers <= 1:
        yield from map(_write, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # In batches: otherwise the pool's queue would hold a copy of all annotations.
        for start in range(0, len(jobs), _BATCH):
            yield from pool.map(_write, jobs[start : start + _BATCH], chunksize=16)


def _write(job: _Job) -> str | None:
    """Write a PNG; return the reason of a failure, or None."""
    try:
        write_index_png(job.path, job.source.labels())
    except (DataError, BadFileError) as error:
        return str(error)
    return None
