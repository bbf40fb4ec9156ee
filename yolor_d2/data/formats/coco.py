"""COCO JSON: one file with its images, export folders, and the official folders or archives."""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import BadFileError, DataError, LabelError
from ..catalog.categories import Categories
from ..catalog.coco_join import CocoFiles, load_coco_multitask
from ..catalog.datasets import read_categories, used_categories
from ..catalog.entries import entries
from ..files.contents import archive_names, path_of_name, read_json
from ..files.semantic_files import CLASS_FILE
from .image_files import list_files
from .source import PART_NAMES, TRAIN, OwnData, Record

EXPORT_FILE = "_annotations.coco.json"
OFFICIAL = re.compile(r"(instances|captions|panoptic)_((train|val|test)\w*)\.json", re.I)
SEMANTIC = re.compile(r"semantic_((train|val|test)\w*)", re.I)  # folder of PNGs
# Files of COCO's own folders and of exports are not read as a single file.
OTHERS = re.compile(r"(person_keypoints|stuff|image_info)_\w+\.json|_annotations\..*")

logger = logging.getLogger(__name__)


def find_json(path: Path) -> Path | None:
    """Return a COCO JSON file: the path itself, or the only one of a folder."""
    if path.is_file():
        return path if path.suffix == ".json" and _is_coco(path) else None
    files = [f for folder in (path, path / "annotations") for f in sorted(folder.glob("*.json"))]
    found = [f for f in files if not _is_part(f.name) and _is_coco(f)]
    return found[0] if len(found) == 1 else None


def read_single(path: Path) -> OwnData:
    """Read a COCO JSON file of instances or captions."""
    file = find_json(path)
    assert file is not None
    content = read_json(file)
    part = CocoFiles(_image_root(file, content), **{_key_of(content): file})
    return _read(path if path.is_dir() else part.image_root, {TRAIN: part})


def find_export(path: Path) -> dict[str, Path]:
    """Return the JSON files of an export by part, such as train/_annotations.coco.json."""
    found = {
        PART_NAMES[name]: path / name / EXPORT_FILE for name in PART_NAMES if _has(path / name)
    }
    return found or ({TRAIN: path / EXPORT_FILE} if _has(path) else {})


def read_export(path: Path) -> OwnData:
    """Read an export of COCO JSON files, each beside its images."""
    parts = {}
    for part, file in find_export(path).items():
        parts[part] = CocoFiles(file.parent, **{_key_of(read_json(file)): file})
    return _read(path, parts)


def find_official(path: Path) -> dict[str, CocoFiles]:
    """Return the parts of COCO's own folders and archives, such as train2017.zip.

    Semantic PNGs need a list of their classes; panoptic PNGs are used beside semantic ones.
    """
    found: dict[str, dict[str, Path]] = {}
    roots: dict[str, Path] = {}
    for file in [*_official_files(path), *_semantic_folders(path)]:
        if match := OFFICIAL.fullmatch(file.name):
            kind, split, part = match.groups()
            files = {f"{kind.lower()}_json": file}
        elif match := SEMANTIC.fullmatch(file.name):
            split, part = match.groups()
            files = {"sem_seg_root": file}
        else:
            continue
        if "panoptic_json" in files:
            maps = _map_folder(path, f"panoptic_{split}")
            files = {} if maps is None else files | {"panoptic_root": maps}
        places = (path / split, path / f"{split}.zip", path / "images" / split, path / "images")
        root = next((place for place in places if place.exists()), None)
        part = part.lower()
        if files and root is not None and roots.setdefault(part, root) == root:
            found.setdefault(part, {}).update(files)
    for files in found.values():
        if "sem_seg_root" not in files:
            files.pop("panoptic_json", None)
            files.pop("panoptic_root", None)
    return {part: CocoFiles(roots[part], **files) for part, files in found.items() if files}


def read_official(path: Path) -> OwnData:
    """Read COCO's own folders or archives; archives are not unpacked."""
    return _read(path, find_official(path))


def _is_part(name: str) -> bool:
    return bool(OFFICIAL.fullmatch(name) or OTHERS.fullmatch(name))


def _has(folder: Path) -> bool:
    return (folder / EXPORT_FILE).is_file()


def _official_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    files = [*sorted(path.glob("*.json")), *sorted((path / "annotations").glob("*.json"))]
    for archive in sorted(path.glob("annotations*.zip")):
        try:
            files += [archive / name for name in archive_names(archive)]
        except BadFileError as error:
            raise DataError(str(error)) from None
    return files


def _semantic_folders(path: Path) -> list[Path]:
    places = [*path.glob("semantic_*"), *path.glob("annotations/semantic_*")]
    return sorted(place for place in places if (place / CLASS_FILE).is_file())


def _map_folder(path: Path, name: str) -> Path | None:
    places = (path / "annotations" / name, path / name)
    return next((place for place in places if place.is_dir()), None)


def _is_coco(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return b'"images"' in data and b'"annotations"' in data


def _key_of(content: Any) -> str:
    annotations = content.get("annotations") if isinstance(content, dict) else None
    is_captions = isinstance(annotations, list) and any(
        isinstance(a, dict) and "caption" in a for a in annotations[:1]
    )
    return "captions_json" if is_captions else "instances_json"


def _image_root(file: Path, content: Any) -> Path:
    """Return the folder that has the first image of a file."""
    names = [image["file_name"] for image in entries(content, "images", file, ("file_name",))]
    if not names:
        raise DataError(f"{file}: lists no images")
    ending = file.stem.partition("_")[2] or file.stem  # instances_default.json: images/default
    folders = ("", "images", file.stem, ending, f"images/{ending}")
    for place in (
        base / folder for base in (file.parent, file.parent.parent) for folder in folders
    ):
        if any(os.path.isfile(path_of_name(place, name)) for name in names[:100]):
            return place
    raise LabelError(f"{file}: {names[0]} is neither beside it nor in a folder images")


def _read(root: Path, parts: Mapping[str, CocoFiles]) -> OwnData:
    if len(parts) == 1:  # it is split
        parts = dict(zip([TRAIN], parts.values(), strict=True))
    tables = {f: read_categories(f) for p in parts.values() if (f := p.instances_json)}
    _check_equal(tables)
    things = Categories.from_coco(used_categories(list(tables))) if tables else None
    sem_seg = _semantic_table(parts.values())
    panoptic = _panoptic_table(parts.values(), sem_seg)
    kept: dict[str, list[Record]] = {}
    missing: list[str] = []
    images: set[str] = set()
    for part, files in parts.items():
        if panoptic is None:
            files = files._replace(panoptic_root=None, panoptic_json=None)
        records = load_coco_multitask(files, things=things, panoptic=panoptic)
        images |= set(map(str, list_files(files.image_root)))
        names = [record["file_name"] for record in records]
        absent = {name for name in names if name not in images and not os.path.isfile(name)}
        kept[part] = [record for record in records if record["file_name"] not in absent]
        missing += sorted(absent)
    labeled = {record["file_name"] for records in kept.values() for record in records}
    if not labeled:
        example = f"; there is no image for {missing[0]}" if missing else ""
        raise DataError(f"{root}: no image has labels{example}")
    return OwnData(
        root=root,
        parts=kept,
        things=things,
        sem_seg=sem_seg,
        panoptic=panoptic,
        unlabeled=len(images - set(map(os.path.normpath, labeled))),
        missing=tuple(missing),
    )


def _semantic_table(parts: Iterable[CocoFiles]) -> Categories | None:
    """Return the classes of semantic PNGs, which are listed beside them."""
    files = [part.sem_seg_root / CLASS_FILE for part in parts if part.sem_seg_root is not None]
    tables = {file: read_categories(file) for file in files}
    if not tables:
        return None
    _check_equal(tables)
    shared = tables[files[0]]
    if [entry.get("index") for entry in shared] != list(range(len(shared))):
        raise LabelError(f"{files[0]}: the index of its categories does not count from 0")
    return Categories.from_coco({"isthing": False, **entry} for entry in shared)


def _panoptic_table(parts: Iterable[CocoFiles], sem_seg: Categories | None) -> Categories | None:
    """Return the panoptic classes; None if stuff is not a class of the semantic maps."""
    tables = {file: read_categories(file) for part in parts if (file := part.panoptic_json)}
    if not tables or sem_seg is None:
        return None
    _check_equal(tables)
    table = Categories.from_coco(next(iter(tables.values())))
    stuff = {name for name, thing in zip(table.names, table.is_thing, strict=True) if not thing}
    if other := sorted(stuff - set(sem_seg.names)):
        file = next(iter(tables))
        logger.warning("%s: left out, the semantic maps have no class %s", file, other[0])
        return None
    return table


def _check_equal(tables: Mapping[Path, list[Record]]) -> None:
    classes = {file: [(c["id"], c["name"]) for c in table] for file, table in tables.items()}
    for file in classes:
        first = next(iter(classes))
        if classes[file] != classes[first]:
            raise DataError(f"{file}: its categories differ from those of {first}")
