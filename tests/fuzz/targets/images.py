"""Image files, read as by training, predictions and the web page, and label maps."""

import io
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from yolor_d2.data.files.images import image_size, read_image, read_upright
from yolor_d2.data.files.panoptic_maps import (
    read_segment_ids,
    segment_annotations,
    segment_labels,
)
from yolor_d2.data.files.semantic_files import read_index_png
from yolor_d2.inference.media import open_media, raise_error
from yolor_d2.web.uploads import BadUploadError, read_upload

from ..byte_mutators import mutate_bytes
from ..cases import GIVEN, Case, Target
from ..corpus import Files, encode, label_map, pictures, pixels, png, segment_map

READERS = ("train", "train", "predict", "header", "upload")
SIDES = (0, 1, 2, 31, 33, 30_000, 65_500, 70_000, 2**31 - 1, 2**32 - 1)
MAX_PIXELS = 1000  # of the web page here
LARGEST_MEGABYTES = 2500  # of an image with the largest number of pixels that are decoded
LARGE = 10**6  # pixels; larger images are not decoded a second time
EXACT = {"RGB", "L", "P", "1"}  # modes that all decoders agree on, in formats without loss


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a valid chunk."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_of_size(width: int, height: int, *, bomb: bool, color: int, depth: int) -> bytes:
    """Return a PNG whose header claims a size; with `bomb`, its data are that long."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    size = min((width * (3 if color == 2 else 1) + 1) * height, 10**8) if bomb else 100
    data = zlib.compress(bytes(size), 1)
    chunks = (b"IHDR", header), (b"IDAT", data), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def with_size(rng: Random, data: bytes, kind: str) -> bytes:
    """Return an image with another size in its header."""
    width, height = (rng.choice(SIDES) for _ in range(2))
    if kind == ".png":
        color, depth = rng.choice(((0, 8), (2, 8), (3, 8), (0, 16), (0, 1), (6, 8)))
        return png_of_size(width, height, bomb=rng.random() < 0.3, color=color, depth=depth)
    changed = bytearray(data)
    if kind == ".jpg":
        frame = max(changed.find(b"\xff\xc0"), changed.find(b"\xff\xc2"))
        changed[frame + 5 : frame + 9] = struct.pack(">HH", height % 65536, width % 65536)
    elif kind == ".bmp":
        changed[18:26] = struct.pack("<ii", min(width, 2**31 - 1), -min(height, 2**31 - 1))
    elif kind == ".gif":
        changed[6:10] = struct.pack("<HH", width % 65536, height % 65536)
    elif kind == ".ppm":
        changed = bytearray(b"P6\n%d %d\n255\n" % (width, height) + data[-100:])
    else:
        start = rng.randrange(min(len(changed), 60) - 4)
        changed[start : start + 4] = struct.pack("<I", width)
    return bytes(changed)


def mutate(rng: Random, index: int, corpus: Files) -> Case:
    """Change an image."""
    name = rng.choice(sorted(corpus))
    data, suffix = corpus[name], Path(name).suffix
    kind = rng.random()
    if kind < 0.15:
        data, what = with_size(rng, data, suffix), "other size"
    elif kind < 0.2:
        size = (rng.choice((1, 2, 40)), rng.choice((1, 2, 40)))
        data, what = encode(Image.new("RGB", size), "PNG"), f"valid, {size}"
    elif kind < 0.22:
        data, what = corpus[name], "unchanged"
    elif kind < 0.25:
        name, what = Path(name).stem + rng.choice((".jpg", ".png", ".tif")), "other suffix"
    else:
        data, what = mutate_bytes(rng, data)
    arguments = [rng.choice(READERS), rng.choice((1, 1, 2, 4, 8))]
    return Case({name: data}, arguments, f"{name}: {what}")


def run(corpus: Files, case: Case) -> int | None:
    """Read the image with one of READERS."""
    (name,) = case.files
    data, path = case.files[name], f"{GIVEN}/{name}"
    reader, reduction = case.arguments
    expected = decoded_by_pillow(data)
    if reader == "header":
        size = image_size(path)
        assert min(size) > 0, f"size {size}"
        assert expected is None or sorted(size) == sorted(expected.size), f"size {size}"
    elif reader == "upload":
        _check_upload(data, name)
    elif reader == "predict":
        media = open_media(path)
        (picture,) = media.pictures(raise_error)
        check_pixels(picture.pixels, expected)
    else:
        width, height = expected.size if expected is not None else (32, 24)
        image = read_image(path, width=width, height=height, reduction=reduction)
        assert image.shape == (-(-height // reduction), -(-width // reduction), 3)
        if reduction == 1:
            check_pixels(image, expected)
        check_pixels(read_upright(path), expected)
    return None


def _check_upload(data: bytes, name: str) -> None:
    try:
        upload = read_upload(data, max_pixels=MAX_PIXELS)
    except BadUploadError as error:
        raise BadUploadError(f"{GIVEN}/{name}: {error}") from None  # the page shows it beside it
    assert upload.pixels.dtype == np.uint8
    assert upload.pixels.shape[2:] == (3,)
    assert upload.pixels.shape[0] * upload.pixels.shape[1] <= MAX_PIXELS


def decoded_by_pillow(data: bytes, *, upright: bool = True) -> Image.Image | None:
    """Decode independently, with the EXIF rotation if `upright`; None if Pillow cannot."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.size[0] * image.size[1] > LARGE:
            return None
        image.load()
        turned = ImageOps.exif_transpose(image) if upright else image
        turned.format = image.format  # copies have none
        return turned
    except Exception:  # decoders can raise anything
        return None


def check_pixels(found: np.ndarray, expected: Image.Image | None) -> None:
    """Pixels are RGB, and Pillow's. Decoders differ in damaged headers of BMP."""
    assert found.dtype == np.uint8
    assert found.ndim == 3 and found.shape[2] == 3 and found.size  # noqa: PT018
    if expected is None:
        return
    if found.shape[1::-1] == expected.size[::-1]:  # decoders differ in damaged EXIF rotations
        return
    assert found.shape[1::-1] == expected.size, f"{found.shape}, not {expected.size}"
    is_exact = expected.format != "BMP" and expected.mode in EXACT
    if is_exact and "transparency" not in expected.info:
        difference = np.abs(found.astype(int) - np.asarray(expected.convert("RGB")))
        assert difference.max() <= 1, f"a pixel differs by {difference.max()}"


IMAGES = Target(
    about="images of all formats, with loss and without; right: as Pillow decodes them",
    prepare=pictures,
    mutate=mutate,
    run=run,
    megabytes=LARGEST_MEGABYTES,
)


def make_maps() -> Files:
    """Return semantic and panoptic maps."""
    palette = Image.fromarray(label_map()).convert("P")
    return {
        "semantic.png": png(label_map()),
        "palette.png": encode(palette, "PNG"),
        "small.png": encode(Image.fromarray(label_map() % 3).quantize(4), "PNG"),
        "colors.png": png(pixels()),
        "panoptic.png": png(segment_map()),
        "deep.png": encode(Image.fromarray(label_map().astype(np.uint16)), "PNG"),
        "map.jpg": encode(Image.fromarray(label_map()), "JPEG"),
    }


def mutate_map(rng: Random, index: int, corpus: Files) -> Case:
    """Change a map; half of the changes keep its checksums valid."""
    name = rng.choice(sorted(corpus))
    data = corpus[name]
    kind = rng.random()
    if kind < 0.15:
        data, what = with_size(rng, data, ".png"), "other size"
    elif kind < 0.5 and name.endswith(".png"):
        data, what = _other_chunks(rng, data)
    elif kind < 0.55:
        what = "unchanged"
    else:
        data, what = mutate_bytes(rng, data)
    return Case({name: data}, rng.choice(("semantic", "panoptic")), f"{name}: {what}")


def _other_chunks(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Change the contents of a PNG's chunks, with the right checksums."""
    chunks: list[tuple[bytes, bytes]] = []
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append(
            (data[position + 4 : position + 8], data[position + 8 : position + 8 + length])
        )
        position += 12 + length
    place = rng.randrange(len(chunks))
    kind, content = chunks[place]
    what = rng.choice(("content", "pixels", "remove", "double", "kind"))
    if what == "remove":
        del chunks[place]
    elif what == "double":
        chunks.insert(rng.randrange(len(chunks)), (kind, content))
    elif what == "kind":
        chunks[place] = (
            rng.choice((b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"zzzz", b"IEND")),
            content,
        )
    elif what == "pixels" and kind == b"IDAT":
        rows = mutate_bytes(rng, zlib.decompress(content))[0]
        chunks[place] = (kind, zlib.compress(rows))
    else:
        chunks[place] = (kind, mutate_bytes(rng, content)[0])
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks), f"{what} of {kind!r}"


def run_map(corpus: Files, case: Case) -> int | None:
    """Read a semantic or panoptic map."""
    (name,) = case.files
    path, expected = f"{GIVEN}/{name}", decoded_by_pillow(case.files[name], upright=False)
    if case.arguments == "semantic":
        labels = read_index_png(path)
        assert labels.dtype == np.uint8
        assert labels.ndim == 2
        if labels.size > LARGE:
            return None
        assert expected is not None, "Pillow cannot decode it"
        assert np.array_equal(labels, np.asarray(expected)), "other labels than Pillow's"
        return None
    ids = read_segment_ids(path)
    assert ids.dtype == np.int32
    assert ids.ndim == 2
    assert ids.min() >= 0
    segments = _segments(ids)
    labels = segment_labels(ids, segments)
    covered = sum(int((ids == segment["id"]).sum()) for segment in segments)
    assert int((labels != 255).sum()) == covered
    areas = [int(a["bbox"][2]) > int(a["bbox"][0]) for a in segment_annotations(ids, segments)]
    assert all(areas)
    return None


def _segments(ids: np.ndarray) -> list[dict[str, Any]]:
    found = np.unique(ids)[:5].tolist()
    return [
        {"id": number, "isthing": k % 2, "category_id": 0, "sem_seg_label": k}
        for k, number in enumerate([*found, 2**24])
    ]


MAPS = Target(
    about="semantic and panoptic maps; right: as Pillow decodes them",
    prepare=make_maps,
    mutate=mutate_map,
    run=run_map,
    megabytes=LARGEST_MEGABYTES,
)
