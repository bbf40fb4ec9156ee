"""Inputs of predictions: arrays, image files, folders, videos, cameras and streams."""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..data.files.contents import ARCHIVE_SUFFIX
from ..data.files.images import read_upright
from ..data.formats.image_files import list_files
from ..data.formats.recognize import fitting_formats, recognize
from ..errors import BadFileError, DataError

# Of the frames in a video's header, which some formats only estimate; with fewer it is damaged.
EXPECTED_SHARE = 0.9
IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .jpe .pbm .pgm .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
VIDEO_SUFFIXES = frozenset(
    ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv .flv .3gp".split()  # noqa: SIM905
)
# Files of labels that stand for their images.
LABEL_SUFFIXES = frozenset((".csv", ".json", ".jsonl", ".yaml", ".yml"))

logger = logging.getLogger(__name__)

OneSource = str | os.PathLike[str] | int | np.ndarray | Image.Image
Source = OneSource | Sequence[OneSource]
T = TypeVar("T")
OnError = Callable[[BadFileError], None]


class Picture(NamedTuple):
    """An image to predict on.

    Attributes:
        pixels: uint8 RGB (height, width, 3).
        name: name of the file, stream or camera; "" for an array.
        frame: number in a video, from 0; None for images. Live sources skip frames.
    """

    pixels: np.ndarray
    name: str = ""
    frame: int | None = None


@dataclass(frozen=True)
class Media:
    """An opened source of images.

    Attributes:
        pictures: iterates over the images once; its argument is called with the error of each file
            that cannot be read.
        kind: "image", "images", "video", or "live" for cameras and streams.
        count: number of images; None if unknown.
        fps: frames per second of a video; 0 if unknown.
    """

    pictures: Callable[[OnError], Iterator[Picture]]
    kind: str = "image"
    count: int | None = 1
    fps: float = 0.0


def open_media(source: Source) -> Media:
    """Open a source of images.

    Args:
        source: the path of an image, folder or video; the URL of a stream; the number of a camera;
            an RGB array; a PIL image; or a list of images. Images of a folder or zip file are
            sorted by name. Subfolders of a folder are ignored, its videos with a warning. A folder
            without images, or a file of labels, can be labeled data in a format of
            docs/reference/data_formats.md: all images with labels.

    Raises:
        BadFileError: the source does not exist, is empty or cannot be read.
        ValueError: an array is not an image.
    """
    if isinstance(source, list | tuple):
        return _images(source)
    if isinstance(source, str) and "://" in source:
        return _video(source, kind="live")
    if isinstance(source, int) and not isinstance(source, bool):
        return _video(source, kind="live")
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    picture = to_picture(source)
    return Media(lambda on_error: iter([picture]))


def open_inputs(inputs: Sequence[str], *, on_error: OnError) -> Iterator[Media]:
    """Open inputs of a command line: videos and live sources first, then all images together.

    Args:
        inputs: paths, camera numbers and URLs.
        on_error: called with the error of each input that cannot be opened.
    """
    stills: list[Media] = []
    for name in inputs:
        is_camera = name.isdecimal() and not Path(name).exists()
        try:
            media = open_media(int(name) if is_camera else name)
        except BadFileError as error:
            on_error(error)
            continue
        if media.kind in ("image", "images"):
            stills.append(media)
        else:
            yield media
    if stills:
        yield Media(
            lambda on_error: chain.from_iterable(media.pictures(on_error) for media in stills),
            kind="images",
            count=sum(media.count or 0 for media in stills),
        )


def raise_error(error: BadFileError) -> None:
    """The default `on_error`."""
    raise error


def to_picture(source: Any) -> Picture:
    """Read a file, an array or a PIL image."""
    if isinstance(source, str | os.PathLike):
        return Picture(read_upright(os.fspath(source)), os.fspath(source))
    if isinstance(source, Image.Image):
        return _from_pil(source)
    if isinstance(source, np.ndarray):
        return Picture(to_rgb(source))
    kinds = "a path, an array, a PIL image, a list of them, or the number of a camera"
    raise ValueError(f"a source must be {kinds}, not {type(source).__name__}")


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Convert gray, RGB or RGBA pixels of 8 or 16 bits to uint8 RGB (H, W, 3)."""
    channels = image.shape[2] if image.ndim == 3 else 1
    known = image.ndim in (2, 3) and channels in (1, 3, 4) and image.size > 0
    if not known or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            "an image must be an array uint8 or uint16 of shape (H, W), (H, W, 3) or (H, W, 4), "
            f"not {image.dtype} {image.shape}"
        )
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)  # as OpenCV does with files
    if channels == 1:
        image = np.broadcast_to(image.reshape(*image.shape[:2], 1), (*image.shape[:2], 3))
    return np.ascontiguousarray(image[..., :3])


def _from_pil(image: Image.Image) -> Picture:
    name = getattr(image, "filename", "")
    name = name if isinstance(name, str) else ""
    if image.mode == "F":  # `convert` would make values from 0 to 1 black
        raise ValueError("PIL images of mode F have no defined range; convert them to uint8")
    try:  # decodes the file
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits; `convert` would clip them at 255
            deep = np.asarray(upright).clip(0, 65535).astype(np.uint16)
            return Picture(to_rgb(deep), name)
        return Picture(np.array(upright.convert("RGB")), name)
    except (OSError, SyntaxError) as error:
        raise BadFileError(name, f"cannot be decoded ({error})") from None


def _open_path(path: Path) -> Media:
    suffix = path.suffix.lower()
    if os.path.isdir(path):  # False, not an error, for names that are too long
        return _images(_images_of_folder(path))
    if suffix in VIDEO_SUFFIXES:
        return _video(str(path), kind="video")
    if suffix in {ARCHIVE_SUFFIX, *LABEL_SUFFIXES} and os.path.isfile(path):
        images = _images_of_archive(path) if suffix == ARCHIVE_SUFFIX else _labeled_images(path)
        if not images:
            raise BadFileError(str(path), "has no images")
        return _images(images)
    return Media(lambda on_error: _read_all([path], on_error))


def _images_of_folder(path: Path) -> Sequence[Path | str]:
    try:
        names = list(path.iterdir())
    except OSError as error:
        raise BadFileError(str(path), error.strerror or str(error)) from None
    files = sorted(f for f in names if _is_image_name(f))
    videos = [f for f in names if f.suffix.lower() in VIDEO_SUFFIXES and f.is_file()]
    if files and videos:
        logger.warning("%s: %d videos are skipped: name them one by one", path, len(videos))
    found = files or _labeled_images(path)
    if not found:
        hint = "its videos must be named one by one" if videos else "nor labels of a known format"
        raise BadFileError(str(path), f"has no images{';' if videos else ','} {hint}")
    return found


def _images_of_archive(path: Path) -> list[Path]:
    try:
        return list_files(path, tuple(IMAGE_SUFFIXES))
    except DataError as error:
        raise BadFileError(str(path), _reason(error, path)) from None


def _labeled_images(path: Path) -> list[str]:
    """Return the images with labels of data in a known format; [] if the format is unknown."""
    if not fitting_formats(path):
        return []
    try:
        data = recognize(path).read(path)
    except DataError as error:
        raise BadFileError(str(path), _reason(error, path)) from None
    return [record["file_name"] for record in data.records()]


def _reason(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _is_image_name(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden and not path.is_dir()


def _images(sources: Sequence[Any]) -> Media:
    return Media(lambda on_error: _read_all(sources, on_error), kind="images", count=len(sources))


def _read_all(sources: Iterable[Any], on_error: OnError) -> Iterator[Picture]:
    for source in sources:
        try:
            yield to_picture(source)
        except BadFileError as error:
            on_error(error)


def _video(source: str | int, *, kind: str) -> Media:
    """Open a video file, a stream or a camera; it is closed after the last frame."""
    name = f"camera {source}" if isinstance(source, int) else source
    if kind == "video" and not os.path.isfile(name):
        raise BadFileError(name, "No such file or directory")
    try:
        name.encode()
    except UnicodeEncodeError:  # OpenCV would crash
        raise BadFileError(name, "video names must be UTF-8") from None
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        reason = "cannot be read as a video" if kind == "video" else "cannot be opened"
        raise BadFileError(name, f"{reason} (or its codec is missing)")
    frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    fps = capture.get(cv2.CAP_PROP_FPS)
    if frames > 0:
        kind = "video"  # a URL can be that of a file
    return Media(
        lambda on_error: _read_frames(
            capture, name, on_error, expected=frames, is_live=kind == "live"
        ),
        kind=kind,
        count=frames or None,
        fps=fps if 0 < fps < math.inf else 0.0,  # damaged headers make NaN
    )


def _read_frames(
    capture: cv2.VideoCapture, name: str, on_error: OnError, *, expected: int, is_live: bool
) -> Iterator[Picture]:
    """Yield all frames of a video, or the newest frames of a live source."""
    frames = _frames(capture)
    read = 0
    try:
        for number, frame in newest(frames) if is_live else frames:
            read += 1
            yield Picture(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), name, number)
    finally:
        capture.release()
    if not read:
        on_error(BadFileError(name, "has no readable frames"))
    elif read < EXPECTED_SHARE * expected - 2 and not is_live:
        on_error(BadFileError(name, f"is damaged after {read} of about {expected} frames"))


def _frames(capture: cv2.VideoCapture) -> Iterator[tuple[int, np.ndarray]]:
    for number in count():
        success, frame = capture.read()
        if not success:
            return
        yield number, frame


def newest(items: Iterator[T]) -> Iterator[T]:
    """Read items in a thread; while the caller is busy, all but the newest are skipped."""
    waiting: Queue[T] = Queue(maxsize=1)
    has_stopped = Event()
    errors: list[Exception] = []

    def keep_newest() -> None:
        try:
            for item in items:
                if has_stopped.is_set():
                    return
                with suppress(Empty):
                    waiting.get_nowait()
                waiting.put(item)
        except Exception as error:  # raised again in the caller's thread
            errors.append(error)

    reader = Thread(target=keep_newest, name=newest.__name__, daemon=True)
    reader.start()
    try:
        while reader.is_alive() or not waiting.empty():
            with suppress(Empty):
                yield waiting.get(timeout=0.1)
    finally:
        has_stopped.set()
        reader.join()  # before the caller closes its source
    if errors:
        raise errors[0]
