"""Pictures of strangers."""

import io

import numpy as np
import pytest
from PIL import Image

from yolor_d2.web.uploads import FORMATS, BadUploadError, fitting_size, read_upload


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_are_detected_from_content(kind: str) -> None:
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    upload = read_upload(encoded(Image.fromarray(pixels), kind), max_pixels=600)
    assert upload.pixels.shape == (20, 30, 3)
    assert np.abs(upload.pixels.astype(int) - pixels).max() < 12
    assert (upload.width, upload.height) == (30, 20)
    assert not upload.is_scaled


@pytest.mark.parametrize(
    ("mode", "kind", "same"),
    [
        *(("RGB", "JPEG", True), ("RGB", "PNG", True), ("L", "PNG", True), ("RGB", "TIFF", False)),
        *(("CMYK", "JPEG", False), ("RGBA", "PNG", False), ("I;16", "PNG", False)),
    ],
)
def test_what_browsers_show_as_the_network_sees_it(mode: str, kind: str, same: bool) -> None:
    content = encoded(Image.new(mode, (30, 20)), kind)
    assert read_upload(content, max_pixels=600).looks_same is same


@pytest.mark.parametrize(("kind", "same"), [("JPEG", True), ("PNG", False)])
def test_turned_pictures_look_the_same_in_jpeg_only(kind: str, same: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (30, 20)), kind, exif=exif)
    assert read_upload(content, max_pixels=600).looks_same is same


@pytest.mark.parametrize(
    "content",
    [
        b"no picture",
        b"\x80\x04cos\nsystem\n(S'false'\ntR.",
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_files_that_are_not_pictures(content: bytes) -> None:
    with pytest.raises(BadUploadError, match=r"^This file is not a supported picture .*JPEG, PNG"):
        read_upload(content, max_pixels=100)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_pictures(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(BadUploadError, match=r"damaged|not a supported picture"):
        read_upload(content[: len(content) // 2], max_pixels=100)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_pictures_are_scaled_down(kind: str, orientation: int) -> None:
    image = Image.new("RGB", (1600, 400), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 800, 400))
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6: the stored left side is the top
    upload = read_upload(encoded(image, kind, exif=exif), max_pixels=10_000)
    size = (400, 1600) if orientation == 6 else (1600, 400)
    assert (upload.width, upload.height) == size
    assert upload.pixels.shape[1::-1] == fitting_size(*size, 10_000)
    assert upload.pixels[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert upload.pixels[-1, -1].tolist() == pytest.approx([0, 0, 255], abs=3)


def test_bombs_are_refused_from_their_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise AssertionError("must not be decoded")

    large = [encoded(Image.new("1", size), "PNG") for size in ((12_000, 12_000), (60_000, 200))]
    large.append(encoded(Image.new("1", (20_000, 20_000)), "PNG"))  # refused by Pillow
    narrow = encoded(Image.new("1", (1, 600)), "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for content in large:
        with pytest.raises(BadUploadError, match=r"too large.*100 megapixels"):
            read_upload(content, max_pixels=100)
    with pytest.raises(BadUploadError, match="too narrow, 1 x 600"):
        read_upload(narrow, max_pixels=100)


def test_fitting_size() -> None:
    assert fitting_size(8000, 6250, 4_000_000) == (2262, 1767)
    assert fitting_size(30, 20, 600) == (30, 20)
    assert fitting_size(500, 1, 1) == (22, 1)
