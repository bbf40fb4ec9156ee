"""Semantic PNGs: files of any encoder are read, damaged files are refused."""

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from yolor_d2.data.files.semantic_files import png_size, read_index_png, write_index_png
from yolor_d2.errors import BadFileError

LABELS = np.random.default_rng(0).integers(0, 171, (37, 53), np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.png"


@given(labels=st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_round_trip(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "round_trip.png"
    write_index_png(path, labels)
    found = read_index_png(path)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert found.flags.c_contiguous
    assert np.array_equal(found, labels)
    assert png_size(path) == labels.shape
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), labels)
    assert np.array_equal(np.asarray(Image.open(path)), labels)


def test_non_contiguous_array(path):
    write_index_png(path, LABELS[::-1, ::2])
    assert np.array_equal(read_index_png(str(path)), LABELS[::-1, ::2])


def test_no_temporary_file_remains(path):
    write_index_png(path, LABELS)
    assert [entry.name for entry in path.parent.iterdir()] == ["labels.png"]


@pytest.mark.parametrize("labels", [LABELS.astype(np.int64), LABELS[0], LABELS[:0]])
def test_only_maps_are_written(path, labels):
    with pytest.raises(ValueError, match="uint8 map"):
        write_index_png(path, labels)


@pytest.mark.parametrize("strategy", [cv2.IMWRITE_PNG_STRATEGY_FILTERED, 0])
def test_opencv_files(path, strategy):
    cv2.imwrite(str(path), LABELS, [cv2.IMWRITE_PNG_STRATEGY, strategy])
    assert np.array_equal(read_index_png(path), LABELS)


def test_pillow_files(path):
    Image.fromarray(LABELS).save(path)
    assert np.array_equal(read_index_png(path), LABELS)


@pytest.mark.parametrize("bits", [8, 4])
def test_palette_gives_indices_not_colors(path, bits):
    labels = LABELS >> (8 - bits)
    image = Image.fromarray(labels, mode="P")
    image.putpalette([255 - value // 3 for value in range(768)])
    image.save(path, bits=bits)
    assert np.array_equal(read_index_png(path), labels)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (LABELS.astype(np.uint16), "16 bits"),
        (LABELS > 80, "1 bits"),
        (np.stack([LABELS] * 3, axis=-1), "colors"),
        (np.stack([LABELS] * 4, axis=-1), "colors"),
    ],
)
def test_other_images_are_refused(path, array, reason):
    Image.fromarray(array).save(path)
    with pytest.raises(BadFileError, match=reason) as caught:
        read_index_png(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("writer", [write_index_png, lambda p, a: Image.fromarray(a).save(p)])
def test_every_truncation_and_damage_is_detected(path, writer):
    writer(path, LABELS[:9, :9])
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position])
        with pytest.raises(BadFileError):
            read_index_png(path)
        damaged = bytearray(whole)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(BadFileError):
            read_index_png(path)


def test_reasons(path):
    with pytest.raises(BadFileError, match=r"labels\.png: No such file"):
        read_index_png(path)
    path.write_bytes(b"")
    with pytest.raises(BadFileError, match="is empty"):
        read_index_png(path)
    path.write_bytes(b"\xff\xd8 a photograph")
    with pytest.raises(BadFileError, match="not a PNG"):
        read_index_png(path)
    write_index_png(path, LABELS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadFileError, match="truncated"):
        read_index_png(path)
    assert png_size(path) is None


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"IEND", b""),
        chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)) + chunk(b"IEND", b""),
        chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(19)))
        + chunk(b"IEND", b""),
        chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\x09" * 20))
        + chunk(b"IEND", b""),
        chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 4, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(4)))
        + chunk(b"IEND", b""),
    ],
)
def test_invalid_content_with_valid_checksums(path, chunks):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(BadFileError, match=r"is damaged|cannot be decoded"):
        read_index_png(path)


def test_pixels_beyond_the_size_are_not_decompressed(path):
    write_index_png(path, LABELS)
    start, end = path.read_bytes()[:33], path.read_bytes()[-12:]
    content = b"IDAT" + zlib.compress(bytes(100_000_000), 1)
    chunk = struct.pack(">I", len(content) - 4) + content
    path.write_bytes(start + chunk + struct.pack(">I", zlib.crc32(content)) + end)
    tracemalloc.start()
    with pytest.raises(BadFileError, match="its pixels do not fill its size"):
        read_index_png(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_too_many_pixels(path):
    write_index_png(path, LABELS)
    data = bytearray(path.read_bytes())
    struct.pack_into(">II", data, 16, 30_000, 30_000)
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="has more than 178 million pixels"):
        read_index_png(path)
