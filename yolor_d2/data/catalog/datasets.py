"""Registers data sets of several tasks in detectron2's catalogs."""

import difflib
import functools
import json
import logging
import mmap
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DataError, LabelError
from ..files.contents import read_json
from .categories import IGNORE_LABEL, MAX_CLASSES, Categories
from .coco_join import CocoFiles, load_coco_multitask, load_images
from .entries import is_text, is_whole, shown

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

# Arguments that a keyword of metadata could be meant for.
ARGUMENTS = (
    *("instances_json", "captions_json", "sem_seg_root", "panoptic_root", "panoptic_json"),
    *("things", "sem_seg", "panoptic", "skip_missing"),
)


def register_coco_multitask(
    name: str,
    image_root: PathLike,
    *,
    instances_json: PathLike | None = None,
    captions_json: PathLike | None = None,
    sem_seg_root: PathLike | None = None,
    panoptic_root: PathLike | None = None,
    panoptic_json: PathLike | None = None,
    things: Categories | None = None,
    sem_seg: Categories | Sequence[str] | None = None,
    panoptic: Categories | None = None,
    skip_missing: bool = False,
    **metadata: Any,
) -> None:
    """Register a data set with any subset of boxes and masks, captions, semantic and panoptic maps.

    Its files are read by the first `DatasetCatalog.get(name)`. If an image has no entry in an
    annotation file, that target is missing, which is different from empty.

    Args:
        name: name in detectron2's catalogs.
        image_root: folder of the images.
        instances_json: COCO instances: boxes, polygons or RLE, crowds.
        captions_json: COCO captions.
        sem_seg_root: folder of PNGs named like the images, with class indices; 255 is ignored.
        panoptic_root, panoptic_json: COCO panoptic PNGs and their JSON; both or neither.
        things: object categories; None reads them from instances_json now, without a first one that
            only groups the others, as Roboflow exports it.
        sem_seg: classes of the semantic maps in the order of their indices, as categories or, if
            ids are not needed, as names; None takes those of the panoptic file.
        panoptic: panoptic categories; None reads them from panoptic_json now.
        skip_missing: warn about missing annotation files instead of raising an error.
        **metadata: further metadata; overrides that of things, captions and semantic maps.

    Raises:
        DataError: a keyword is similar to an argument, or the files contradict each other.
    """
    _check_keywords(name, metadata)
    annotations = (instances_json, captions_json, sem_seg_root, panoptic_root, panoptic_json)
    files = CocoFiles(
        Path(image_root), *(None if path is None else Path(path) for path in annotations)
    )
    if not any(files[1:]):
        raise DataError(f"{name}: has no annotation files")
    if (files.panoptic_root is None) != (files.panoptic_json is None):
        raise DataError(f"{name}: panoptic_root and panoptic_json go together")
    if things is None and files.instances_json is not None:
        things = Categories.from_coco(used_categories([files.instances_json]))
    if panoptic is None and files.panoptic_json is not None:
        panoptic = Categories.from_coco(read_categories(files.panoptic_json))
    leaves = _sem_seg_table(name, files, panoptic if sem_seg is None else sem_seg)
    load = functools.partial(load_coco_multitask, files, things=things, panoptic=panoptic)
    DatasetCatalog.register(name, functools.partial(load, skip_missing=skip_missing))
    _set_metadata(name, files, things, leaves, metadata)
    if panoptic is not None:
        set_panoptic_metadata(name, panoptic, files.panoptic_root, files.panoptic_json)


def register_images(name: str, image_root: PathLike, **metadata: Any) -> None:
    """Register images without labels, which train only with a teacher (SOLVER.TEACHER).

    The folder and its subfolders are searched by the first `DatasetCatalog.get(name)`.

    Args:
        name: name in detectron2's catalogs.
        image_root: folder of the images.
        **metadata: thing_classes and stuff_classes, if no other training set has them.
    """
    DatasetCatalog.register(name, functools.partial(load_images, Path(image_root)))
    MetadataCatalog.get(name).set(image_root=str(image_root), **metadata)


def _check_keywords(name: str, metadata: Iterable[str]) -> None:
    """Refuse metadata whose name is most likely that of a misspelt argument."""
    for key in metadata:
        near = difflib.get_close_matches(key, ARGUMENTS, n=1, cutoff=0.75)
        if near and not key.endswith(ARGUMENTS):  # "sixth_captions_json" is meant
            raise DataError(f"{name}: there is no argument {key}; did you mean {near[0]}?")


def _sem_seg_table(
    name: str, files: CocoFiles, classes: Categories | Sequence[str] | None
) -> Categories | None:
    """Return the classes of the semantic maps; None without semantic maps."""
    if classes is None:
        if files.sem_seg_root is not None:
            raise DataError(f"{name}: sem_seg_root needs sem_seg, the names of its classes")
        return None
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"{name}: has {len(classes)} semantic classes, at most {MAX_CLASSES} are possible"
        )
    return classes if isinstance(classes, Categories) else Categories.from_names(classes)


def _set_metadata(
    name: str,
    files: CocoFiles,
    things: Categories | None,
    sem_seg: Categories | None,
    more: dict[str, Any],
) -> None:
    """Set the metadata that detectron2's evaluators and Visualizer read."""
    meta: dict[str, Any] = {
        "image_root": str(files.image_root),
        "evaluator_type": "coco_multitask",
        "ignore_label": IGNORE_LABEL,
    }
    if things is not None:
        meta["thing_classes"] = list(things.names)
        meta["thing_colors"] = list(things.colors)
        meta["thing_dataset_id_to_contiguous_id"] = dict(things.id_to_index)
    if files.instances_json is not None:
        meta["json_file"] = str(files.instances_json)
    if files.captions_json is not None:
        meta["captions_json"] = str(files.captions_json)
    if sem_seg is not None:
        # detectron2 calls all classes of a semantic map "stuff", including things.
        meta["stuff_classes"] = list(sem_seg.names)
        meta["stuff_colors"] = list(sem_seg.colors)
        meta["stuff_dataset_id_to_contiguous_id"] = dict(sem_seg.id_to_index)
    if files.sem_seg_root is not None:
        meta["sem_seg_root"] = str(files.sem_seg_root)
    MetadataCatalog.get(name).set(**(meta | more))


def set_panoptic_metadata(
    name: str, panoptic: Categories, root: PathLike | None, json_file: PathLike | None
) -> None:
    """Set panoptic metadata, and register `<name>_panoptic` for detectron2's Visualizer.

    The Visualizer looks up panoptic segments in thing_classes and stuff_classes. For COCO these
    tables (80 and 171) differ from the panoptic one (133), so that one needs its own metadata.
    """
    files = {
        "panoptic_root": str(root),
        "panoptic_json": None if json_file is None else str(json_file),
    }
    MetadataCatalog.get(name).set(
        **files,
        panoptic_classes=list(panoptic.names),
        panoptic_colors=list(panoptic.colors),
        panoptic_is_thing=list(panoptic.is_thing),
        panoptic_dataset_id_to_contiguous_id=dict(panoptic.id_to_index),
    )
    ids = list(zip(panoptic.ids, range(len(panoptic)), panoptic.is_thing, strict=True))
    MetadataCatalog.get(f"{name}_panoptic").set(
        thing_classes=list(panoptic.names),
        thing_colors=list(panoptic.colors),
        stuff_classes=list(panoptic.names),
        stuff_colors=list(panoptic.colors),
        thing_dataset_id_to_contiguous_id={i: index for i, index, thing in ids if thing},
        stuff_dataset_id_to_contiguous_id={i: index for i, index, thing in ids if not thing},
        label_divisor=1000,
        ignore_label=IGNORE_LABEL,
        **files,
    )


def used_categories(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The categories of COCO files, without an unannotated one that all others belong to.

    Args:
        paths: of files with the same categories.
    """
    categories = read_categories(paths[0])
    for parent in categories:
        others = [category for category in categories if category is not parent]
        if others and all(other.get("supercategory") == parent["name"] for other in others):
            key = re.escape(json.dumps(parent["id"]))
            used = re.compile(rf'"category_id"\s*:\s*{key}\s*[,}}]'.encode())
            if any(used.search(path.read_bytes()) for path in paths):
                continue
            name = parent["name"]
            logger.warning("%s: left out the class %s, which has no objects", paths[0], name)
            return others
    return categories


def read_categories(path: Path) -> list[dict[str, Any]]:
    """Read the categories of a COCO file without parsing its annotations."""
    categories = _find_categories(path)
    if not isinstance(categories, list):
        raise DataError(f"{path}: has no list of categories")
    if not all(isinstance(c, dict) and {"id", "name"} <= c.keys() for c in categories):
        raise DataError(f"{path}: its categories need an id and a name")
    for category in categories:
        if not is_whole(category["id"]) or not is_text(category["name"]):
            what = f"{shown(category['id'])} and the name {shown(category['name'])}"
            raise DataError(f"{path}: a category has the id {what}, not a number and a text")
        if category.get("color") is not None and not _is_color(category["color"]):
            raise DataError(f"{path}: category {category['id']} has a color that is not 3 numbers")
        category["id"] = int(category["id"])
    for category_id, count in Counter(c["id"] for c in categories).items():
        if count > 1:
            raise DataError(f"{path}: category id {category_id} occurs {count} times")
    return categories


def _find_categories(path: Path) -> Any:
    """Return the member "categories" of a file; None if it is missing."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            categories = _last_member(data, "categories")
            if categories is None:
                categories = _member(data[:].decode("utf-8-sig"), "categories")
            return categories
    except NotADirectoryError:  # in an archive
        content = read_json(path)
        return content.get("categories") if isinstance(content, dict) else None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # also raised by mmap for an empty file
        raise LabelError(f"{path}: is not valid JSON ({error})") from None
    except RecursionError:
        raise LabelError(f"{path}: is not valid JSON (its lists are nested too deeply)") from None


def _is_color(value: Any) -> bool:
    is_triple = isinstance(value, list) and len(value) == 3
    return is_triple and all(is_whole(part) and 0 <= part <= 255 for part in value)


def _last_member(data: mmap.mmap, name: str) -> Any:
    """Return the value of a JSON object's last member; None if its name differs or is uncertain."""
    key = f'"{name}"'.encode()
    start = data.rfind(key)
    # Only blanks precede a key; a backslash means that the match is inside a string.
    if start < 0 or data[max(start - 99, 0) : start].rstrip()[-1:] not in (b"{", b","):
        return None
    tail = data[start + len(key) :].decode("utf-8").lstrip()
    if not tail.startswith(":"):
        return None
    tail = tail[1:].lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(tail)
    except ValueError:
        return None
    # Only a single brace may follow: the end of the top-level object.
    return value if tail[end:].strip() == "}" else None


def _member(text: str, name: str) -> Any:
    """Return the value of a JSON object's member, without parsing beyond it; None if missing."""
    decode = json.JSONDecoder().raw_decode
    mark, position = _next_mark(text, 0, "{")
    while mark != "}":
        key, position = decode(text, position)
        _, position = _next_mark(text, position, ":")
        value, position = decode(text, position)
        if key == name:
            return value
        mark, position = _next_mark(text, position, ",}")
    return None


def _next_mark(text: str, position: int, marks: str) -> tuple[str, int]:
    """Return the next mark and the position after it, skipping blanks."""
    match = re.compile(rf"\s*([{marks}])\s*").match(text, position)
    if match is None:
        raise ValueError(f"no {' or '.join(marks)} at character {position}")
    return match[1], match.end()
