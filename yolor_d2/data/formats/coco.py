"""COCO JSON: one file with its images, export folders, and the official folders or archives."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import BadFileError, DataError, LabelError
from ..catalog.categories import Categories
from ..catalog.coco_join import CocoFiles, load_coco_multitask
from ..catalog.datasets import read_categories
from ..catalog.entries import entries
from ..files.contents import archive_names, read_json
from ..files.semantic_files import CLASS_FILE
from .source import PART_NAMES, TRAIN, OwnData, Record, list_files

EXPORT_FILE = "_annotations.coco.json"
OFFICIAL = re.compile(r"(instances|captions|panoptic)_((train|val)\w*)\.json")
SEMANTIC = re.compile(r"semantic_((train|val)\w*)")  # folder of PNGs
# Files of COCO's own folders and of exports are not read as a single file.
OTHERS = re.compile(
    r"(instances|captions|panoptic|person_keypoints|stuff|image_info)_\w+\.json|_annotations\..*"
)

logger = logging.getLogger(__name__)


def find_json(path: Path) -> Path | None:
    """Return a COCO JSON file: the path itself, or the only one of a folder."""
    if path.is_file():
        return path if path.suffix == ".json" and _is_coco(path) else None
    files = [f for folder in (path, path / "annotations") for f in sorted(folder.glob("*.json"))]
    found = [f for f in files if not OTHERS.fullmatch(f.name) and _is_coco(f)]
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
            files = {f"{kind}_json": file}
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
    places = [file.parent, file.parent / "images", file.parent / file.stem, file.parent.parent]
    places += [file.parent.parent / "images", file.parent.parent / file.stem]
    for place in places:
        if any((place / name).is_file() for name in names[:100]):
            return place
    raise LabelError(f"{file}: {names[0]} is neither beside it nor in a folder images")


def _read(root: Path, parts: Mapping[str, CocoFiles]) -> OwnData:
    if TRAIN not in parts:  # the only part is split
        parts = dict(zip([TRAIN, *parts][: len(parts)], parts.values(), strict=True))
    tables = {f: read_categories(f) for p in parts.values() if (f := p.instances_json)}
    listed = _shared_table(tables) if tables else None
    things = None if listed is None else Categories.from_coco(_without_parent(tables, listed))
    sem_seg = _semantic_table(parts.values())
    panoptic = _panoptic_table(parts.values(), sem_seg)
    kept: dict[str, list[Record]] = {}
    missing: list[str] = []
    unlabeled = 0
    for part, files in parts.items():
        if panoptic is None:
            files = files._replace(panoptic_root=None, panoptic_json=None)
        records = load_coco_multitask(files, things=things, panoptic=panoptic)
        present = set(map(str, list_files(files.image_root)))
        kept[part] = [r for r in records if r["file_name"] in present]
        missing += [r["file_name"] for r in records if r["file_name"] not in present]
        unlabeled += len(present - {r["file_name"] for r in records})
    if not kept.get(TRAIN):
        raise DataError(f"{root}: no image has labels to train on")
    return OwnData(
        root=root,
        parts=kept,
        things=things,
        sem_seg=sem_seg,
        panoptic=panoptic,
        unlabeled=unlabeled,
        missing=tuple(missing),
    )


def _semantic_table(parts: Iterable[CocoFiles]) -> Categories | None:
    """Return the classes of semantic PNGs, which are listed beside them."""
    files = [part.sem_seg_root / CLASS_FILE for part in parts if part.sem_seg_root is not None]
    tables = {file: read_categories(file) for file in files}
    if not tables:
        return None
    shared = _shared_table(tables)
    if [entry.get("index") for entry in shared] != list(range(len(shared))):
        raise LabelError(f"{files[0]}: the index of its categories does not count from 0")
    return Categories.from_coco({"isthing": False, **entry} for entry in shared)


def _panoptic_table(parts: Iterable[CocoFiles], sem_seg: Categories | None) -> Categories | None:
    """Return the panoptic classes; None if stuff is not a class of the semantic maps."""
    tables = {file: read_categories(file) for part in parts if (file := part.panoptic_json)}
    if not tables or sem_seg is None:
        return None
    table = Categories.from_coco(_shared_table(tables))
    stuff = {name for name, thing in zip(table.names, table.is_thing, strict=True) if not thing}
    if other := sorted(stuff - set(sem_seg.names)):
        file = next(iter(tables))
        logger.warning("%s: left out, the semantic maps have no class %s", file, other[0])
        return None
    return table


def _shared_table(tables: Mapping[Path, list[Record]]) -> list[Record]:
    (first, things), *others = tables.items()
    for file, table in others:
        if [(c["id"], c["name"]) for c in table] != [(c["id"], c["name"]) for c in things]:
            raise DataError(f"{file}: its categories differ from those of {first}")
    return things


def _without_parent(files: Iterable[Path], things: list[Record]) -> list[Record]:
    """Leave out a category that is only the parent of all others, as in some exports."""
    parents = {
        c["name"]
        for c in things
        if len(things) > 1
        and all(o.get("supercategory") == c["name"] for o in things if o["id"] != c["id"])
    }
    if not parents:
        return things
    used = {
        annotation["category_id"]
        for file in files
        for annotation in entries(read_json(file), "annotations", file, ("category_id",))
    }
    return [c for c in things if c["name"] not in parents or c["id"] in used]
