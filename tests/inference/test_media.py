"""Every source becomes upright uint8 RGB images."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from yolor_d2.errors import BadFileError
from yolor_d2.inference.media import Picture, open_media, raise_error, to_picture, to_rgb

from ..data.formats.samples import HEIGHT, NUMBER, WIDTH, WRITERS


def gradient(height: int = 24, width: int = 36) -> np.ndarray:
    """RGB with different corners and channels."""
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 255 / height, columns * 255 / width, 255 - rows * 255 / height]
    return np.stack(planes, axis=2).astype(np.uint8)


def pictures(source: Any) -> list[Picture]:
    return list(open_media(source).pictures(raise_error))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["file", "PIL image"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = Image.fromarray(gradient())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    stored.save(path, exif=exif, quality=100, subsampling=0)
    found = to_picture(path if kind == "file" else Image.open(path))
    assert found.name == str(path)
    assert np.abs(found.pixels.astype(int) - gradient()).max() < 12  # of JPEG


@pytest.mark.parametrize("kind", ["file", "PIL image"])
@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "x.png"), ("RGBA", "x.png"), ("P", "x.png"), ("P", "x.gif"), ("LA", "x.png"),
     ("1", "x.png"), ("CMYK", "x.jpg"), ("RGB", "x.bmp"), ("RGB", "x.webp"), ("RGB", "x.tif")],
)  # fmt: skip
def test_every_mode(tmp_path: Path, mode: str, name: str, kind: str) -> None:
    if (name, kind) == ("x.gif", "file") and cv2.__version__.startswith("4.11."):
        pytest.skip("OpenCV reads GIF files since 4.12")
    image = Image.fromarray(gradient()).convert(mode)
    image.save(tmp_path / name)
    path = tmp_path / name
    found = to_picture(path if kind == "file" else Image.open(path)).pixels
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert found.dtype == np.uint8
    assert found.shape == (24, 36, 3)
    assert np.abs(found - expected).mean() < 5  # lossy formats


@pytest.mark.parametrize("kind", ["file", "PIL image", "array"])
def test_sixteen_bits(tmp_path: Path, kind: str) -> None:
    deep = gradient()[..., 0].astype(np.uint16) * 257
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), deep)
    source = {"file": path, "array": deep}.get(kind) if kind != "PIL image" else Image.open(path)
    found = to_picture(source).pixels
    assert np.abs(found.astype(int) - gradient()[..., :1]).max() <= 1


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_arrays(shape: tuple[int, ...]) -> None:
    found = to_rgb(np.full(shape, 7, np.uint8))
    assert found.shape == (5, 4, 3)
    assert (found == 7).all()
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 4, 2), np.uint8),
        np.zeros((5, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(3),
    ],
)
def test_arrays_that_are_not_images(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image must be an array uint8 or uint16"):
        to_picture(array)


@pytest.mark.parametrize("thing", [1.5, None, True])
def test_other_types_are_not_sources(thing: Any) -> None:
    with pytest.raises(ValueError, match=rf"a source must be a path.*not {type(thing).__name__}"):
        open_media(thing)


def test_floating_point_pil_images_are_refused() -> None:
    """Pillow would convert values from 0 to 1 to black."""
    with pytest.raises(ValueError, match="PIL images of mode F"):
        to_picture(Image.fromarray(np.full((4, 5), 0.7, np.float32)))


def test_a_folder_gives_its_images_sorted_by_name(tmp_path: Path) -> None:
    (tmp_path / "._a.png").write_bytes(b"of another system")
    for name in ("b.PNG", "a.jpg", "c.jpeg"):
        Image.fromarray(gradient()).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    media = open_media(tmp_path)
    assert (media.kind, media.count) == ("images", 3)
    assert [Path(p.name).name for p in media.pictures(raise_error)] == ["a.jpg", "b.PNG", "c.jpeg"]


def test_skipped_videos_of_a_folder_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.mp4", "b.AVI"):
        (tmp_path / name).touch()
    with pytest.raises(BadFileError, match="has no images; its videos must be named one by one"):
        open_media(tmp_path)
    Image.fromarray(gradient()).save(tmp_path / "a.jpg")
    with caplog.at_level("WARNING", logger="yolor_d2"):
        assert open_media(tmp_path).count == 1
    assert caplog.messages == [f"{tmp_path}: 2 videos are skipped: name them one by one"]


@pytest.mark.parametrize("name", WRITERS)
def test_labeled_data_gives_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(name)
    root.mkdir()
    WRITERS[name](root)
    found = pictures(root)
    assert len(found) == len({picture.name for picture in found}) == NUMBER
    assert all(picture.pixels.shape == (HEIGHT, WIDTH, 3) for picture in found)


def test_label_files_and_archives(tmp_path: Path) -> None:
    for name, file in (("yolo", "data.yaml"), ("box_csv", "boxes.csv")):
        (tmp_path / name).mkdir()
        WRITERS[name](tmp_path / name)
        assert len(pictures(next((tmp_path / name).rglob(file)))) == NUMBER
    (tmp_path / "coco_zip").mkdir()
    WRITERS["coco_zip"](tmp_path / "coco_zip")
    archive = tmp_path / "coco_zip/train2017.zip"
    found = pictures(archive)
    assert found[0].name.startswith(f"{archive}/")
    (one,) = pictures(found[0].name)
    assert (one.pixels == found[0].pixels).all()


def test_errors_in_labels_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [ball]\n")
    with pytest.raises(BadFileError, match=r"data\.yaml: has no train, the folder of images"):
        open_media(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text("train: nowhere\nnames: [ball]\n")
    with pytest.raises(BadFileError, match="nowhere"):
        open_media(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "has no images, nor labels of a known format"),
        ("text.zip", "cannot be read as a zip archive"),
        ("text.json", "has no images"),
        ("nothing.jpg", "No such file or directory"),
        ("nothing.mp4", "No such file or directory"),
        ("text.jpg", "is not an image"),
        ("text.mp4", "cannot be read as a video"),
        ("\udcff.mp4", "video names must be UTF-8"),
        ("x" * 300, "File name too long"),
        ("x" * 300 + ".mp4", "No such file or directory"),
        ("empty.png", "is empty"),
        ("cut.jpg", "is truncated"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    for text in ("text.jpg", "text.zip", "text.json", "text.mp4", "\udcff.mp4"):
        (tmp_path / text).write_text("no picture at all")
    (tmp_path / "empty.png").touch()
    Image.fromarray(gradient(200, 200)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(BadFileError) as caught:
        pictures(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {reason}")
    assert "\n" not in str(caught.value)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BadFileError, match=f"^{tmp_path}: Permission denied$"):
        open_media(tmp_path)


def test_a_damaged_pil_image_among_others(tmp_path: Path) -> None:
    """PIL decodes its file lazily, so that the error comes late."""
    noise = np.random.default_rng(0).integers(256, size=(90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    errors: list[BadFileError] = []
    sources = [Image.open(tmp_path / "cut.jpg"), noise]
    found = list(open_media(sources).pictures(errors.append))
    assert [picture.name for picture in found] == [""]
    assert [error.path for error in errors] == [str(tmp_path / "cut.jpg")]
    with pytest.raises(BadFileError, match=r"cut\.jpg: cannot be decoded"):
        pictures(Image.open(tmp_path / "cut.jpg"))


def test_missing_cameras_and_streams() -> None:
    for source, name in ((97, "camera 97"), ("file:///nowhere.sdp", "file:///nowhere.sdp")):
        with pytest.raises(BadFileError, match=f"{name}: cannot be opened"):
            open_media(source)


@pytest.mark.parametrize("rate", [math.nan, math.inf, -1.0])
def test_a_damaged_frame_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    capture = cv2.VideoCapture

    class Damaged:
        def __init__(self, source: str) -> None:
            self.capture = capture(source)

        def get(self, key: int) -> float:
            return rate if key == cv2.CAP_PROP_FPS else self.capture.get(key)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.capture, name)

    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    monkeypatch.setattr(cv2, "VideoCapture", Damaged)
    assert open_media(path).fps == 0


def test_a_video_that_ends_too_early(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (64, 48))
    random = np.random.RandomState(0)
    for _ in range(20):
        writer.write(random.randint(256, size=(48, 64, 3), dtype=np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    errors: list[BadFileError] = []
    frames = list(open_media(path).pictures(errors.append))
    assert 0 < len(frames) < 18
    (error,) = errors
    assert str(error) == f"{path}: is damaged after {len(frames)} of about 20 frames"


def test_a_video(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (64, 48))
    for shade in (0, 100, 200):
        writer.write(np.full((48, 64, 3), (shade, 0, 255), np.uint8))  # BGR
    writer.release()
    media = open_media(path)
    assert (media.kind, media.count, media.fps) == ("video", 3, 12)
    frames = list(media.pictures(raise_error))
    assert [(frame.name, frame.frame) for frame in frames] == [(str(path), n) for n in range(3)]
    for frame, shade in zip(frames, (0, 100, 200), strict=True):
        assert np.abs(frame.pixels.mean(axis=(0, 1)) - (255, 0, shade)).max() < 8
