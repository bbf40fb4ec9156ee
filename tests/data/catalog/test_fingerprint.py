"""Fingerprints of data sets: they change with the data and with nothing else."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import MetadataCatalog

from yolor_d2.data.catalog.fingerprint import dataset_fingerprint
from yolor_d2.errors import DataError

from ..coco_files import KINDS, Album, restored_catalogs


@pytest.fixture
def album(tmp_path: Path) -> Iterator[Album]:
    root = tmp_path / "here"
    root.mkdir()
    with restored_catalogs():
        album = Album(root)
        album.register("album", *KINDS)
        yield album


def names_and_sizes(folder: Path) -> str:
    """Return the SHA-256 of the file list of a flat folder."""
    lines = (f"{path.name}\0{path.stat().st_size}\n" for path in sorted(folder.iterdir()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_content(album: Album) -> None:
    found = dataset_fingerprint("album")

    files = {"json_file": "instances", "captions_json": "captions", "panoptic_json": "panoptic"}
    folders = {"image_root": "images", "sem_seg_root": "semantic", "panoptic_root": "panoptic"}
    assert found.keys() == files.keys() | folders.keys()
    for key, kind in files.items():
        assert found[key] == hashlib.sha256(album.path(kind).read_bytes()).hexdigest()
    for key, name in folders.items():
        paths = list((album.root / name).iterdir())
        assert found[key] == {
            "files": len(paths),
            "bytes": sum(path.stat().st_size for path in paths),
            "sha256": names_and_sizes(album.root / name),
        }
    assert found["image_root"]["files"] == 4


def test_independent_of_the_location(album: Album, tmp_path: Path) -> None:
    before = dataset_fingerprint("album")
    shutil.copytree(album.root, tmp_path / "there")
    (tmp_path / "there/images/Thumbs.db").write_bytes(b"no image")
    metadata = MetadataCatalog.get("album").as_dict()
    for key in before:
        metadata[key] = metadata[key].replace("/here/", "/there/")
    MetadataCatalog.pop("album")
    MetadataCatalog.get("album").set(**{k: v for k, v in metadata.items() if k != "name"})

    assert dataset_fingerprint("album") == before
    assert str(tmp_path) not in str(before)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("json_file", lambda root: (root / "instances.json").write_text("{}")),
        ("captions_json", lambda root: (root / "captions.json").write_text("{}")),
        ("panoptic_json", lambda root: (root / "panoptic.json").write_text("{}")),
        ("image_root", lambda root: (root / "images/000003.jpg").unlink()),
        ("image_root", lambda root: (root / "images/000003.jpg").write_bytes(b"other")),
        ("sem_seg_root", lambda root: (root / "semantic/new.png").touch()),
        ("panoptic_root", lambda root: shutil.rmtree(root / "panoptic")),
    ],
)
def test_changes_with_the_data(album: Album, key: str, change: Any) -> None:
    before = dataset_fingerprint("album")
    change(album.root)
    after = dataset_fingerprint("album")
    assert before.pop(key) != after.pop(key, None)
    assert after == before


def test_names_and_sizes_are_separated(album: Album) -> None:
    """Swapping the contents of two files changes the digest, not the totals."""
    one, other = (album.images / name for name in ("000003.jpg", "000007.jpg"))
    before = dataset_fingerprint("album")["image_root"]
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    after = dataset_fingerprint("album")["image_root"]
    assert (after["files"], after["bytes"]) == (before["files"], before["bytes"])
    assert after["sha256"] != before["sha256"]


def test_subfolders_and_links(album: Album) -> None:
    before = dataset_fingerprint("album")["image_root"]
    real = album.root / "elsewhere"
    real.mkdir()
    (album.images / "000003.jpg").rename(real / "a.jpg")
    (album.images / "part").symlink_to(real)
    (album.images / "loop").symlink_to(album.images)
    (album.images / "broken.jpg").symlink_to(album.root / "nowhere")
    after = dataset_fingerprint("album")["image_root"]
    assert (after["files"], after["bytes"]) == (before["files"], before["bytes"])


def test_unregistered_name() -> None:
    with restored_catalogs(), pytest.raises(DataError, match="there is no data set albun; "):
        dataset_fingerprint("albun")
