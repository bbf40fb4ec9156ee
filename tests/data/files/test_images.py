"""Reading images: formats, damaged files, the cache, the list of bad files."""

import multiprocessing
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yolor_d2.data.files.images import ArrayCache, BadFiles, image_size, read_image, read_upright
from yolor_d2.data.files.panoptic_maps import read_segment_ids, segment_ids
from yolor_d2.errors import BadFileError, DataError

WIDTH, HEIGHT = 50, 34
OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth, so that JPEG hardly changes it; every corner differs."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 5, y * 7, (x + y) * 3], axis=2).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif"])
def test_formats(tmp_path: Path, picture: np.ndarray, name: str) -> None:
    path = str(tmp_path / name)
    Image.fromarray(picture).save(path, quality=98)
    found = read_image(path, width=WIDTH, height=HEIGHT)
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - picture).mean() < 2
    assert image_size(path) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_color_modes_become_rgb(tmp_path: Path, picture: np.ndarray, mode: str) -> None:
    path = str(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    image = Image.fromarray(picture).convert(mode)
    image.save(path)
    found = read_image(path, width=WIDTH, height=HEIGHT)
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB"))).mean() < 6


def test_16_bit(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    values = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    cv2.imwrite(path, values)
    found = read_image(path, width=WIDTH, height=HEIGHT)
    assert np.abs(found[..., 0].astype(int) - values // 256).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotated_size_decides_about_exif_rotation(
    tmp_path: Path, picture: np.ndarray, orientation: int
) -> None:
    path = str(tmp_path / "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(path, exif=exif, quality=98)
    width, height = image_size(path)
    assert (width, height) == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
    turned = read_image(path, width=width, height=height)
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)}  # where the dark corner went
    corner |= {5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert turned[corner[orientation]].max() < 12
    as_stored = read_image(path, width=WIDTH, height=HEIGHT)
    assert as_stored.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_reduced_pixels_are_means_of_blocks(
    tmp_path: Path, picture: np.ndarray, name: str, reduction: int
) -> None:
    path = str(tmp_path / name)
    Image.fromarray(picture).save(path, quality=98)
    found = read_image(path, width=WIDTH, height=HEIGHT, reduction=reduction)
    assert found.shape == (-(-HEIGHT // reduction), -(-WIDTH // reduction), 3)
    rows, columns = HEIGHT // reduction, WIDTH // reduction
    whole = picture[: rows * reduction, : columns * reduction].astype(float)
    means = whole.reshape(rows, reduction, columns, reduction, 3).mean(axis=(1, 3))
    assert np.abs(found[:rows, :columns] - means).mean() < 2.5


def test_reduction_keeps_rotation_and_errors(tmp_path: Path) -> None:
    """Sizes that differ by less than a block are equal when reduced."""
    path = str(tmp_path / "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    y, x = np.mgrid[:63, :64]
    Image.fromarray((2 * x + 0 * y).astype(np.uint8)).save(path, exif=exif)
    for reduction in (1, 2, 4, 8):
        stored = read_image(path, width=64, height=63, reduction=reduction)
        assert stored[0, -1, 0] > 90  # bright on the right, not rotated to the bottom
        turned = read_image(path, width=63, height=64, reduction=reduction)
        assert turned[-1, 0, 0] > 90
        with pytest.raises(BadFileError, match="its annotation says 61 x 63"):
            read_image(path, width=61, height=63, reduction=reduction)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_header_and_pixels_agree_on_rotation(tmp_path: Path, suffix: str) -> None:
    if suffix == "webp" and OPENCV < (4, 13):
        pytest.skip("OpenCV applies the rotation of WebP files since 4.13")
    path = str(tmp_path / f"a.{suffix}")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 30)).save(path, exif=exif)
    width, height = image_size(path)
    assert read_image(path, width=width, height=height).shape == (height, width, 3)


def test_one_pixel(tmp_path: Path) -> None:
    path = str(tmp_path / "a.jpg")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(path)
    assert read_image(path, width=1, height=1).shape == (1, 1, 3)
    assert read_image(path, width=1, height=1, reduction=8).shape == (1, 1, 3)


def break_file(path: Path, kind: str) -> None:
    """Damage a good image file."""
    data = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        contents = {
            "empty": b"",
            "truncated": data[: len(data) // 2],
            "header only": data[:40],
            "text": b"<html>404 not found</html>",
        }
        path.write_bytes(contents[kind])


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "truncated", "header only", "text"])
def test_broken_files(tmp_path: Path, picture: np.ndarray, name: str, kind: str) -> None:
    path = tmp_path / name
    Image.fromarray(picture).resize((300, 200)).save(path)
    break_file(path, kind)
    with pytest.raises(BadFileError) as caught:
        read_image(str(path), width=300, height=200)
    assert caught.value.path == str(path)
    assert caught.value.reason
    assert "\n" not in str(caught.value)


def test_wrong_size_names_both(tmp_path: Path, picture: np.ndarray) -> None:
    path = str(tmp_path / "a.jpg")
    Image.fromarray(picture).save(path)
    for reduction in (1, 4):
        with pytest.raises(BadFileError, match="is 50 x 34, its annotation says 70 x 34"):
            read_image(path, width=70, height=34, reduction=reduction)


def test_bytes_after_the_end_are_ignored(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path)
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert read_image(str(path), width=WIDTH, height=HEIGHT).shape == (HEIGHT, WIDTH, 3)


def test_cache_keeps_recent_arrays_within_its_size() -> None:
    made = []

    def make(key: str) -> np.ndarray:
        made.append(key)
        return np.zeros(100, np.uint8)

    cache = ArrayCache(250)
    for key in ["a", "b", "a", "c", "a", "b"]:
        cache.get(key, lambda key=key: make(key))
    assert made == ["a", "b", "c", "b"]  # c replaced b, which was used longest ago
    with pytest.raises(ValueError, match="read-only"):
        cache.get("a", lambda: make("a"))[0] = 1
    off = ArrayCache(0)
    off.get("x", lambda: make("x"))
    off.get("x", lambda: make("x"))
    assert made[-2:] == ["x", "x"]


def _report(path: Path, names: list[str]) -> None:
    bad_files = BadFiles(path=path, total=1000, max_fraction=0.05)
    for name in names:
        bad_files.report(BadFileError(name, "is empty"))


def test_bad_files_are_listed_once_over_processes(tmp_path: Path) -> None:
    path = tmp_path / "run" / "bad_files.txt"
    names = [f"{i}.jpg" for i in range(40)]
    workers = [
        multiprocessing.get_context("fork").Process(target=_report, args=(path, names[i:] + names))
        for i in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name}\tis empty" for name in names)


def test_too_many_bad_files_stop(tmp_path: Path) -> None:
    bad_files = BadFiles(path=tmp_path / "bad_files.txt", total=40, max_fraction=0.05)
    for name in ("a", "b", "a", "b"):
        bad_files.report(BadFileError(name, "is empty"))  # 2 of 40 are 5 %, not more
    with pytest.raises(DataError, match=r"3 of 40 images cannot be used, more than 5%.*bad_files"):
        bad_files.report(BadFileError("c", "is empty"))
    bad_files.reset()
    assert not bad_files.path.exists()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("L", (20, 10)).save(path)
    data = bytearray(path.read_bytes())
    start, size = {".png": (16, ">II"), ".bmp": (18, "<ii")}.get(suffix, (0, ">HH"))
    if suffix == ".jpg":
        start = data.index(b"\xff\xc0") + 5
    struct.pack_into(size, data, start, 30_000, 30_000)
    if suffix == ".png":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="has more than 178 million pixels"):
        read_upright(str(path))
    with pytest.raises(BadFileError, match="cannot be decoded"):
        read_segment_ids(str(path))


def test_a_chunk_beyond_the_file(tmp_path: Path) -> None:
    """OpenCV would allocate its length."""
    path = tmp_path / "a.png"
    Image.new("L", (20, 10)).save(path)
    data = bytearray(path.read_bytes())
    data[33:37] = b"\xff\xff\xff\x00"
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="is truncated"):
        read_upright(str(path))


def test_segment_ids() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    red, green, blue = np.moveaxis(colors.astype(int), 2, 0)
    found = segment_ids(colors)
    assert found.dtype == np.int32
    assert np.array_equal(found, red + 256 * green + 65536 * blue)
