"""The toy data set: shapes in landscapes and rooms, with all of COCO's annotations.

    <output>/toy_scenes.json                                    arguments of the generator
    <output>/{train,val}/000001.jpg
    <output>/annotations/{instances,captions,captions_sixth,panoptic,scenes}_{train,val}.json
    <output>/annotations/{panoptic,semantic}_{train,val}/000001.png

Each image depends only on the seed, the split and its number. So the number of workers does not
matter, and a larger data set begins with the images of a smaller one.

The sixth caption of an image is not used for training: its score against the other five is the
score of a perfect model.
"""

import ctypes
import json
import multiprocessing
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ..data.files.semantic_files import write_index_png
from ..errors import DiskError, OptionError, OutputError
from .captions import describe, write_captions
from .coco import (
    INFO,
    LICENSES,
    instance_annotations,
    panoptic_categories,
    panoptic_map,
    semantic_map,
    thing_categories,
)
from .layout import SceneOptions, render_scene
from .truth import COLORS, STUFF_CLASSES, STUFF_COLORS, THING_CLASSES, THING_COLORS, Scene

__all__ = [
    "COLORS",
    "STUFF_CLASSES",
    "STUFF_COLORS",
    "THING_CLASSES",
    "THING_COLORS",
    "Scene",
    "SceneOptions",
    "describe",
    "generate_toy_scenes",
    "write_captions",
]

Json = dict[str, Any]

MARKER = "toy_scenes.json"
SPLITS = ("train", "val")
CAPTIONS_PER_IMAGE = 5
MAX_IMAGES = 999_999  # Per split: file names have six digits.

_CHUNK = 8
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt in glibc, in bytes


class _Task(NamedTuple):
    """An image to generate; `number` counts from 1 within its split."""

    output: Path
    split: str
    number: int
    seed: int
    options: SceneOptions


class _Record(NamedTuple):
    """Entries of an image in the JSON files of its split."""

    image: Json
    instances: list[Json]
    captions: list[Json]
    sixth_caption: Json
    panoptic: Json
    scene: Json


def generate_toy_scenes(
    output: Path,
    *,
    train: int,
    val: int,
    seed: int = 0,
    workers: int = 0,
    width: int = 320,
    height: int = 240,
    min_size: int = 12,
    max_size: int = 200,
    max_objects: int = 8,
    progress: bool = True,
    keep: bool = False,
) -> None:
    """Write a toy data set, replacing an existing one.

    Args:
        output: output folder; must be new, empty, or a folder of toy scenes.
        train: number of training images.
        val: number of validation images.
        seed: random seed.
        workers: number of worker processes; 0 uses this process.
        width, height: size of the images in pixels.
        min_size: smallest longer side of an object that is neither hidden nor cut, in pixels.
        max_size: largest longer side, at most 85 % of the image's shorter side.
        max_objects: largest number of objects in an image; a crowd counts as one.
        progress: show a progress bar.
        keep: write nothing if the folder has exactly this data set.

    Raises:
        ValueError: an argument is out of range, or the output folder has other content.
        OSError: the output folder cannot be written.
    """
    options = SceneOptions(
        width=width, height=height, min_size=min_size, max_size=max_size, max_objects=max_objects
    )
    counts = {"train": train, "val": val}
    _check_arguments(options, counts=counts, seed=seed, workers=workers)
    arguments = {"generator": "yolor_d2 toy scenes", **counts, "seed": seed, **options._asdict()}
    if keep and _is_complete(output, arguments):
        return
    _prepare_output(output, arguments)
    tasks = [
        _Task(output=output, split=split, number=number, seed=seed, options=options)
        for split in SPLITS
        for number in range(1, counts[split] + 1)
    ]
    results = _run(tasks, workers)
    records = list(tqdm(results, total=len(tasks), desc="toy scenes", disable=not progress))
    _write_annotations(output, "train", records[:train])
    _write_annotations(output, "val", records[train:])


def _check_arguments(
    options: SceneOptions, *, counts: dict[str, int], seed: int, workers: int
) -> None:
    for name, value in {**counts, "seed": seed, "workers": workers}.items():
        if value < 0:
            raise OptionError(f"{name} must not be negative, got {value}")
    for split, count in counts.items():
        if count > MAX_IMAGES:
            raise OptionError(f"{split} must be at most {MAX_IMAGES}, got {count}")
    if min(options.width, options.height) < 64:
        raise OptionError(f"images must be at least 64x64, got {options.width}x{options.height}")
    if options.min_size < 8:
        raise OptionError(f"min_size must be at least 8, got {options.min_size}")
    if options.max_size < options.min_size:
        raise OptionError(f"max_size {options.max_size} is less than min_size {options.min_size}")
    if options.min_size + 1 > options.largest:
        raise OptionError(
            f"min_size {options.min_size} is too large: objects in images of {options.width}x"
            f"{options.height} with max_size {options.max_size} reach {options.largest:.0f}"
        )
    if not 1 <= options.max_objects <= 50:
        raise OptionError(f"max_objects must be in 1..50, got {options.max_objects}")


def _is_complete(output: Path, arguments: Json) -> bool:
    """Whether a folder has the data set of these arguments; its JSON files are written last."""
    marker, last = output / MARKER, output / f"annotations/scenes_{SPLITS[-1]}.json"
    return last.is_file() and json.loads(marker.read_text(encoding="utf-8")) == arguments


def _prepare_output(output: Path, arguments: Json) -> None:
    """Create the folders, and remove only the files of an earlier run."""
    marker = output / MARKER
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is not a folder")
    if output.exists() and any(output.iterdir()) and not marker.is_file():
        raise OutputError(f"{output} has files other than toy scenes; choose another folder")
    for split in SPLITS:
        # JSON files are removed first and written last, so that only complete data sets have them.
        for pattern in (
            f"annotations/*_{split}.json",
            f"annotations/panoptic_{split}/*.png",
            f"annotations/semantic_{split}/*.png",
            f"{split}/*.jpg",
        ):
            for path in output.glob(pattern):
                path.unlink()
            (output / pattern).parent.mkdir(parents=True, exist_ok=True)
    _write_json(marker, arguments)


def _run(tasks: list[_Task], workers: int) -> Iterator[_Record]:
    """Yield records in the order of their tasks."""
    if workers == 0:
        yield from map(_make, tasks)
        return
    with multiprocessing.Pool(workers, initializer=_start_worker) as pool:
        yield from pool.imap(_make, tasks, chunksize=_CHUNK)


def _start_worker() -> None:
    """Use one OpenCV thread, as more would compete for the cores, and keep freed memory.

    glibc would return the memory of each large array to the system, and get it again page by page,
    which takes a fifth of the time.
    """
    cv2.setNumThreads(0)
    if platform.libc_ver()[0] == "glibc":
        for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(threshold, 2**28)


def _make(task: _Task) -> _Record:
    """Render and write an image and its annotations."""
    rng = np.random.default_rng([task.seed, SPLITS.index(task.split), task.number])
    rendered = render_scene(rng, task.options)
    stem = f"{task.number:06d}"
    annotations = task.output / "annotations"
    panoptic = panoptic_map(rendered)
    _write_image(
        task.output / task.split / f"{stem}.jpg",
        rendered.image[..., ::-1],
        [cv2.IMWRITE_JPEG_QUALITY, 95],
    )
    _write_image(annotations / f"panoptic_{task.split}" / f"{stem}.png", panoptic.image[..., ::-1])
    write_index_png(annotations / f"semantic_{task.split}" / f"{stem}.png", semantic_map(rendered))

    image_id = task.number + SPLITS.index(task.split) * (MAX_IMAGES + 1)
    sentences = write_captions(rendered.scene, rng, count=CAPTIONS_PER_IMAGE + 1)
    captions = [
        {"id": image_id * 10 + number, "image_id": image_id, "caption": sentence}
        for number, sentence in enumerate(sentences)
    ]
    return _Record(
        image={
            "id": image_id,
            "file_name": f"{stem}.jpg",
            "width": task.options.width,
            "height": task.options.height,
            "license": LICENSES[0]["id"],
        },
        instances=instance_annotations(rendered, image_id),
        captions=captions[:CAPTIONS_PER_IMAGE],
        sixth_caption=captions[CAPTIONS_PER_IMAGE],
        panoptic={
            "image_id": image_id,
            "file_name": f"{stem}.png",
            "segments_info": panoptic.segments,
        },
        scene={
            "image_id": image_id,
            "file_name": f"{stem}.jpg",
            **rendered.scene.to_json(),
        },
    )


def _write_annotations(output: Path, split: str, records: list[_Record]) -> None:
    common = {
        "info": INFO,
        "licenses": LICENSES,
        "images": [record.image for record in records],
    }
    instances = [annotation for record in records for annotation in record.instances]
    captions = [caption for record in records for caption in record.captions]
    sixth = [record.sixth_caption for record in records]
    panoptic = [record.panoptic for record in records]
    files: dict[str, Json] = {
        "instances": {**common, "annotations": instances, "categories": thing_categories()},
        "captions": {**common, "annotations": captions},
        "captions_sixth": {**common, "annotations": sixth},
        "panoptic": {**common, "annotations": panoptic, "categories": panoptic_categories()},
        "scenes": {"scenes": [record.scene for record in records]},
    }
    for kind, content in files.items():
        _write_json(output / "annotations" / f"{kind}_{split}.json", content)


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_image(path: Path, image: np.ndarray, parameters: list[int] | None = None) -> None:
    if not cv2.imwrite(str(path), np.ascontiguousarray(image), parameters or []):
        raise DiskError(f"cannot write {path}")
