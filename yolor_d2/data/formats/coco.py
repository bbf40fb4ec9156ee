"""COCO JSON: one file with its images, export folders, and the official folders or archives."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..catalog.categories import Categories
from ..catalog.coco_join import CocoFiles, load_coco_multitask
from ..catalog.datasets import read_categories
from ..errors import BadFileError, DataError
from ..files.contents import archive_names, read_json
from .source import PART_NAMES, TRAIN, OwnData, Record, list_files

EXPORT_FILE = "_annotations.coco.json"
OFFICIAL = re.compile(r"(instances|captions)_((train|val)\w*)\.json")
# Files of COCO's own folders and of exports are not read as a single file.
OTHERS = re.compile(
    r"(instances|captions|panoptic|person_keypoints|stuff|image_info)_\w+\.json|_annotations\..*"
)


class CocoPart(NamedTuple):
    """Files of a part; None for those it does not have."""

    image_root: Path
    instances_json: Path | None = None
    captions_json: Path | None = None


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
    part = CocoPart(_image_root(file, content), **{_key_of(content): file})
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
        parts[part] = CocoPart(file.parent, **{_key_of(read_json(file)): file})
    return _read(path, parts)


def find_official(path: Path) -> dict[str, CocoPart]:
    """Return the parts of COCO's own folders and archives, such as train2017.zip."""
    found: dict[str, dict[str, Path]] = {}
    roots: dict[str, Path] = {}
    for file in _official_files(path):
        match = OFFICIAL.fullmatch(file.name)
        if match is None:
            continue
        kind, split, part = match.groups()
        places = (path / split, path / f"{split}.zip", path / "images" / split, path / "images")
        root = next((place for place in places if place.exists()), None)
        if root is not None:
            roots.setdefault(part, root)
            if roots[part] == root:
                found.setdefault(part, {})[f"{kind}_json"] = file
    return {part: CocoPart(roots[part], **files) for part, files in found.items()}


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


def _is_coco(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return b'"images"' in data and b'"annotations"' in data


def _key_of(content: Mapping[str, Any]) -> str:
    annotations = content.get("annotations")
    is_captions = isinstance(annotations, list) and any(
        isinstance(a, dict) and "caption" in a for a in annotations[:1]
    )
    return "captions_json" if is_captions else "instances_json"


def _image_root(file: Path, content: Mapping[str, Any]) -> Path:
    """Return the folder that has the first image of a file."""
    images = content.get("images")
    names = [i["file_name"] for i in images or () if isinstance(i, dict) and "file_name" in i]
    if not names:
        raise DataError(f"{file}: lists no images")
    places = [file.parent, file.parent / "images", file.parent / file.stem, file.parent.parent]
    places += [file.parent.parent / "images", file.parent.parent / file.stem]
    for place in places:
        if any((place / name).is_file() for name in names[:100]):
            return place
    raise DataError(f"{file}: {names[0]} is neither beside it nor in a folder images")


def _read(root: Path, parts: Mapping[str, CocoPart]) -> OwnData:
    if TRAIN not in parts:  # the only part is split
        parts = dict(zip([TRAIN, *parts][: len(parts)], parts.values(), strict=True))
    tables = {f: read_categories(f) for p in parts.values() if (f := p.instances_json)}
    things = _shared_table(tables) if tables else None
    if things is not None:
        things = _without_parent(tables, things)
    kept: dict[str, list[Record]] = {}
    missing: list[str] = []
    unlabeled = 0
    for part, files in parts.items():
        table = None if things is None else Categories.from_coco(things)
        records = load_coco_multitask(
            CocoFiles(files.image_root, files.instances_json, files.captions_json),
            things=table,
            panoptic=None,
        )
        present = set(map(str, list_files(files.image_root)))
        kept[part] = [r for r in records if r["file_name"] in present]
        missing += [r["file_name"] for r in records if r["file_name"] not in present]
        unlabeled += len(present - {r["file_name"] for r in records})
    if not kept.get(TRAIN):
        raise DataError(f"{root}: no image has labels to train on")
    table = None if things is None else Categories.from_coco(things)
    return OwnData(root=root, parts=kept, things=table, unlabeled=unlabeled, missing=tuple(missing))


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
    used = {a.get("category_id") for file in files for a in read_json(file)["annotations"]}
    return [c for c in things if c["name"] not in parents or c["id"] in used]
