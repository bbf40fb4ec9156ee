"""Joins COCO-format files of several tasks by image id, into one list of data set dicts.

Inconsistencies raise a DataError that names the file and the id.
"""

import logging
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ...errors import BadFileError, DataError, LabelError
from ..files.contents import path_of_name, read_json
from ..files.images import image_size
from ..files.rle import covers
from ..files.semantic_files import png_size
from .categories import Categories
from .entries import (
    MAX_PIXELS,
    MAX_SEGMENT_ID,
    Json,
    are_coordinates,
    entries,
    is_endless,
    is_text,
    is_whole,
    shown,
)

logger = logging.getLogger(__name__)

Record = dict[str, Any]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")


class CocoFiles(NamedTuple):
    """Paths of the files of a data set; None for those it does not have."""

    image_root: Path
    instances_json: Path | None = None
    captions_json: Path | None = None
    sem_seg_root: Path | None = None
    panoptic_root: Path | None = None
    panoptic_json: Path | None = None


def load_coco_multitask(
    files: CocoFiles,
    *,
    things: Categories | None,
    panoptic: Categories | None,
    skip_missing: bool = False,
) -> list[Record]:
    """Load the images listed by any of the files, with all of their annotations.

    Args:
        files: paths of the files.
        things, panoptic: category tables of instances_json and panoptic_json.
        skip_missing: warn about missing annotation files instead of raising an error.

    Returns:
        Dicts with file_name, image_id, height, width and, where known, annotations, captions,
        sem_seg_file_name, pan_seg_file_name and segments_info. Category ids are contiguous.
    """
    if skip_missing:
        files = _present(files)
    for folder in (files.image_root, files.sem_seg_root, files.panoptic_root):
        if folder is not None and not folder.is_dir() and not zipfile.is_zipfile(folder):
            raise DataError(f"{folder}: there is no such folder")
    records: dict[Any, Record] = {}
    if files.instances_json is not None:
        assert things is not None
        content = _add_images(records, files.instances_json, files.image_root)
        _add_instances(records, content, files.instances_json, things)
    if files.captions_json is not None:
        content = _add_images(records, files.captions_json, files.image_root)
        _add_captions(records, content, files.captions_json)
    if files.panoptic_json is not None:
        assert panoptic is not None
        assert files.panoptic_root is not None
        content = _add_images(records, files.panoptic_json, files.image_root)
        _add_panoptic(records, content, files.panoptic_json, files.panoptic_root, panoptic)
    if files.sem_seg_root is not None:
        _add_sem_seg(records, files.sem_seg_root, files.image_root)
    return [
        records[image_id] for image_id in sorted(records, key=lambda i: (isinstance(i, str), i))
    ]


def load_images(root: Path) -> list[Record]:
    """Dicts of the images in a folder and its subfolders, in order, without annotations."""
    found = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"{root}: there are no images")
    records = []
    for file in found:
        width, height = header_size(str(file))
        image_id = file.relative_to(root).as_posix()
        records.append(
            {"file_name": str(file), "image_id": image_id, "height": height, "width": width}
        )
    return records


def _present(files: CocoFiles) -> CocoFiles:
    """Drop missing annotation files; if all are missing keep them, so that loading names one."""
    names = ("instances_json", "captions_json", "sem_seg_root", "panoptic_json")
    paths = {name: getattr(files, name) for name in names if getattr(files, name) is not None}
    missing = [name for name, path in paths.items() if not path.exists()]
    if len(missing) == len(paths):
        return files
    for name in missing:
        logger.warning("%s is missing: images have no such targets", paths[name])
    if "panoptic_json" in missing:
        missing.append("panoptic_root")
    kept = {name: path for name, path in files._asdict().items() if name not in missing}
    return CocoFiles(**kept)


def _add_images(records: dict[Any, Record], path: Path, image_root: Path) -> Json:
    """Add the images that a file lists, and return its content."""
    content = read_json(path)
    seen = set()
    for image in entries(content, "images", path, ("id", "file_name"), ("width", "height")):
        image_id = image["id"]
        if image_id in seen:
            raise LabelError(f"{path}: image id {image_id} occurs twice")
        seen.add(image_id)
        file_name = str(path_of_name(image_root, image["file_name"]))
        if "height" not in image or "width" not in image:
            known = records.get(image_id)
            size = (known["width"], known["height"]) if known else header_size(file_name)
            image["width"], image["height"] = size
        width, height = int(image["width"]), int(image["height"])
        if min(width, height) < 1 or width * height > MAX_PIXELS:
            raise DataError(f"{path}: image {image_id} has the size {width} x {height}")
        record = {
            "file_name": file_name,
            "image_id": image_id,
            "height": height,
            "width": width,
        }
        known = records.setdefault(image_id, record)
        for key, value in record.items():
            if known[key] != value:
                raise LabelError(
                    f"{path}: image {image_id} has {key} {value}, in another file {known[key]}"
                )
    return content


def header_size(path: str) -> tuple[int, int]:
    """Return (width, height) of an image whose size is in no annotation file."""
    try:
        return image_size(path)
    except BadFileError as error:
        raise DataError(str(error)) from None


def _record_of(records: dict[Any, Record], entry: Json, path: Path) -> Record:
    """Return the record of an annotation's image."""
    record = records.get(entry["image_id"])
    if record is None:
        what = f"annotation {entry['id']}" if "id" in entry else "an annotation"
        raise LabelError(f"{path}: {what} is of image {entry['image_id']}, which is not listed")
    return record


def _add_instances(
    records: dict[Any, Record], content: Json, path: Path, things: Categories
) -> None:
    for image in content["images"]:
        records[image["id"]]["annotations"] = []
    seen = set()
    without_polygon = 0
    fields = ("id", "image_id", "bbox", "category_id")
    for entry in entries(content, "annotations", path, fields, ("iscrowd",)):
        if entry["id"] in seen:
            raise LabelError(f"{path}: annotation id {entry['id']} occurs twice")
        seen.add(entry["id"])
        record = _record_of(records, entry, path)
        annotation = {
            "id": entry["id"],
            "bbox": entry["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": _index_of(
                things, entry["category_id"], f"annotation {entry['id']}", path
            ),
            "iscrowd": int(entry.get("iscrowd") or 0),
        }
        if entry.get("segmentation") and entry["segmentation"] != [[]]:
            segmentation = _read_segmentation(entry, record, path)
            if not segmentation:
                without_polygon += 1
                continue
            annotation["segmentation"] = segmentation
        record["annotations"].append(annotation)
    if without_polygon:
        logger.warning("%s: left out %d objects without a valid polygon", path, without_polygon)


def _index_of(categories: Categories, category_id: Any, what: str, path: Path) -> int:
    index = categories.id_to_index.get(category_id)
    if index is None:
        raise LabelError(f"{path}: {what} has category id {category_id}, which is not in the table")
    return index


def _read_segmentation(entry: Json, record: Record, path: Path) -> Any:
    """Return the polygons of at least three points, or compressed RLE, as in detectron2."""
    segmentation = entry["segmentation"]
    if isinstance(segmentation, list):
        if not all(are_coordinates(ring) for ring in segmentation):
            raise LabelError(
                f"{path}: annotation {entry['id']} has polygons that are not lists of numbers"
            )
        if is_endless(segmentation, width=record["width"], height=record["height"]):
            raise DataError(f"{path}: annotation {entry['id']} has an endless outline")
        return [ring for ring in segmentation if len(ring) >= 6 and len(ring) % 2 == 0]
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise LabelError(f"{path}: annotation {entry['id']} has a mask without size or counts")
    size = [record["height"], record["width"]]
    if segmentation["size"] != size:
        raise LabelError(
            f"{path}: annotation {entry['id']} has a mask of {shown(segmentation['size'])}, "
            f"its image {record['image_id']} is {size} (height, width)"
        )
    if not covers(segmentation["counts"], width=size[1], height=size[0]):
        raise LabelError(f"{path}: annotation {entry['id']} has runs that do not fill its image")
    mask = {key: segmentation[key] for key in ("size", "counts")}
    return mask_util.frPyObjects(mask, *size) if isinstance(mask["counts"], list) else mask


def _add_captions(records: dict[Any, Record], content: Json, path: Path) -> None:
    for entry in entries(content, "annotations", path, ("image_id", "caption")):
        record = _record_of(records, entry, path)
        if not is_text(entry["caption"]):
            raise LabelError(
                f"{path}: image {entry['image_id']} has a caption that is not a string"
            )
        if entry["caption"].strip():
            record.setdefault("captions", []).append(entry["caption"])


def _add_panoptic(
    records: dict[Any, Record], content: Json, path: Path, folder: Path, panoptic: Categories
) -> None:
    present = {file.name for file in folder.iterdir()}
    fields = ("image_id", "file_name", "segments_info")
    for entry in entries(content, "annotations", path, fields):
        record = _record_of(records, entry, path)
        if "segments_info" in record:
            raise LabelError(f"{path}: image {entry['image_id']} has two annotations")
        if entry["file_name"] not in present:
            raise LabelError(f"{folder}: {entry['file_name']} is missing ({path.name} lists it)")
        record["pan_seg_file_name"] = str(folder / entry["file_name"])
        record["segments_info"] = []
        optional = ("area", "bbox", "iscrowd")
        for segment in entries(entry, "segments_info", path, ("id", "category_id"), optional):
            what = f"segment {segment['id']} of image {entry['image_id']}"
            if not (is_whole(segment["id"]) and 0 <= segment["id"] <= MAX_SEGMENT_ID):
                raise DataError(f"{path}: {what} has an id that no pixel can have")
            index = _index_of(panoptic, segment["category_id"], what, path)
            record["segments_info"].append(
                {
                    "id": int(segment["id"]),
                    "category_id": index,
                    "isthing": panoptic.is_thing[index],
                    **{key: segment[key] for key in optional if key in segment},
                }
            )


def _add_sem_seg(records: dict[Any, Record], folder: Path, image_root: Path) -> None:
    """Pair maps with images by name; without other files, the folder of images is listed."""
    maps = {file.stem: str(file) for file in folder.iterdir() if file.suffix == ".png"}
    if not records:
        for file in sorted(image_root.iterdir()):
            if file.suffix.lower() in IMAGE_SUFFIXES and file.stem in maps:
                image_id = int(file.stem) if file.stem.isdecimal() else file.stem
                if image_id in records:
                    other = records[image_id]["file_name"]
                    raise LabelError(f"{file}: has the same image id {image_id} as {other}")
                size = png_size(maps[file.stem])
                if size is None:
                    raise LabelError(f"{maps[file.stem]}: cannot be read as a PNG")
                height, width = size
                records[image_id] = {
                    "file_name": str(file),
                    "image_id": image_id,
                    "height": height,
                    "width": width,
                }
    images_of: dict[str, Record] = {}
    for record in records.values():
        path = maps.get(Path(record["file_name"]).stem)
        if path is None:
            continue
        other = images_of.setdefault(path, record)
        if other is not record:
            raise LabelError(
                f"{path}: has the name of images {other['image_id']} and {record['image_id']}"
            )
        record["sem_seg_file_name"] = path
    if not images_of:
        raise DataError(f"{folder}: has no PNG named like an image of {image_root}")
