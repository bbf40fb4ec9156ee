"""Files in archives: found, cached per process, and never outside of the archive."""

import multiprocessing
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolor_d2.data.files.contents import archive_names, read_bytes
from yolor_d2.data.files.images import image_size, read_image
from yolor_d2.errors import BadFileError


@pytest.fixture
def archive(tmp_path: Path) -> str:
    path = tmp_path / "train2017.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("train2017/1.txt", b"one")
        file.writestr("2.txt", b"two" * 10_000)
        file.writestr("empty.txt", b"")
        file.writestr("../outside.txt", b"outside")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return str(path)


def test_members(archive: str) -> None:
    assert read_bytes(f"{archive}/1.txt") == b"one"
    assert read_bytes(f"{archive}/train2017/1.txt") == b"one"
    assert read_bytes(f"{archive}/2.txt")[:6] == b"twotwo"
    assert "1.txt" in archive_names(archive)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("3.txt", "is not in the archive"),
        ("empty.txt", "is empty"),
        ("../secret.txt", "secret.txt"),
        ("../outside.txt", "outside.txt"),
        ("train2017/../../secret.txt", "leaves its archive"),
    ],
)
def test_members_that_cannot_be_read(archive: str, name: str, reason: str) -> None:
    with pytest.raises(BadFileError) as error:
        read_bytes(f"{archive}/{name}")
    assert reason in str(error.value)


def test_files_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(BadFileError, match="Not a directory"):
        read_bytes(str(tmp_path / "a.txt/b.txt"))
    (tmp_path / "no.zip").write_text("a")
    with pytest.raises(BadFileError, match="cannot be read from the archive"):
        read_bytes(str(tmp_path / "no.zip/b.txt"))


def read_often(path: str) -> bool:
    contents = {f"{path}/1.txt": b"one", f"{path}/2.txt": b"two" * 10_000}
    return all(read_bytes(name) == data for _ in range(100) for name, data in contents.items())


def test_processes_read_at_the_same_time(archive: str) -> None:
    """A forked process does not use the file position of its parent's open archive."""
    assert read_often(archive)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        result = pool.map_async(read_often, [archive] * 4)
        assert read_often(archive)
        assert all(result.get(60))


def test_images(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.jpg"), np.full((24, 32, 3), 90, np.uint8))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.write(tmp_path / "1.jpg", "photos/1.jpg")
    path = str(tmp_path / "photos.zip/1.jpg")
    assert image_size(path) == (32, 24)
    assert read_image(path, width=32, height=24).shape == (24, 32, 3)


def test_members_that_expand_a_thousandfold_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bytes(60_000_000))
        archive.writestr("small.txt", bytes(1_000_000))
    with pytest.raises(BadFileError, match=r"bomb\.txt: expands to 60 MB"):
        read_bytes(f"{path}/bomb.txt")
    assert len(read_bytes(f"{path}/small.txt")) == 1_000_000


def test_a_replaced_archive_is_opened_again(tmp_path: Path) -> None:
    path, other = tmp_path / "a.zip", tmp_path / "other"
    for text in (b"before", b"after"):
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("1.txt", text)
        other.replace(path)
        assert read_bytes(f"{path}/1.txt") == text


def test_names_that_no_file_can_have() -> None:
    for name in ("a\0b", "\ud800"):
        with pytest.raises(BadFileError, match="is not a name of a file"):
            read_bytes(name)
