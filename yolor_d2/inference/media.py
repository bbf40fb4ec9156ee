"""What predictions are made of: arrays, pictures in files and folders, videos, cameras, streams."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..data.errors import BadFileError
from ..data.files.images import read_upright

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jp2 .jpeg .jpg .jpe .pbm .pgm .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
VIDEO_SUFFIXES = frozenset(
    ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv .flv .3gp".split()  # noqa: SIM905
)

OneSource = str | os.PathLike[str] | int | np.ndarray | Image.Image
Source = OneSource | Sequence[OneSource]
T = TypeVar("T")
OnError = Callable[[BadFileError], None]


class Picture(NamedTuple):
    """An image to predict on.

    Attributes:
        pixels: uint8 RGB (height, width, 3).
        name: of its file, stream or camera; "" of an array.
        frame: its number in a video, from 0 on; None of others. Of what is live, numbers are
            missing: those that came while nobody looked.
    """

    pixels: np.ndarray
    name: str = ""
    frame: int | None = None


@dataclass(frozen=True)
class Media:
    """What a source turned out to be.

    Attributes:
        pictures: gives them one by one, once; it is told what to do with what cannot be read.
        kind: "image", one; "images"; "video"; or "live", which goes on while nobody looks.
        count: how many there are, None where only the end will tell.
        fps: frames a second of a video, 0 where it does not say.
    """

    pictures: Callable[[OnError], Iterator[Picture]]
    kind: str = "image"
    count: int | None = 1
    fps: float = 0.0


def open_media(source: Source) -> Media:
    """Find out what a source is.

    Args:
        source: a path of an image, a folder (its images in the order of their names, none of its
            folders), a video, or a URL of a stream; the number of a camera; an RGB array, a PIL
            image; or a list of images.

    Raises:
        BadFileError: there is no such thing, or nothing in it.
        ValueError: an array is no image.
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


def raise_error(error: BadFileError) -> None:
    """What is done with what cannot be read, unless somebody knows better."""
    raise error


def to_picture(source: Any) -> Picture:
    """A file's, an array's or a PIL image's pixels."""
    if isinstance(source, str | os.PathLike):
        return Picture(read_upright(os.fspath(source)), os.fspath(source))
    if isinstance(source, Image.Image):
        return _from_pil(source)
    if isinstance(source, np.ndarray):
        return Picture(to_rgb(source))
    kinds = "a path, an array, a PIL image, a list of them, or the number of a camera"
    raise ValueError(f"a source must be {kinds}, not {type(source).__name__}")


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Pixels of 8 or 16 bits, grey, RGB or RGB with transparency -> uint8 RGB (H, W, 3)."""
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
    if image.mode == "F":  # which `convert` would make black where it is from 0 to 1
        raise ValueError("a PIL image of floating point numbers: nobody knows how bright they are")
    try:  # a file is decoded now
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
            deep = np.asarray(upright).clip(0, 65535).astype(np.uint16)
            return Picture(to_rgb(deep), name)
        return Picture(np.array(upright.convert("RGB")), name)
    except (OSError, SyntaxError) as error:
        raise BadFileError(name, f"cannot be decoded ({error})") from None


def _open_path(path: Path) -> Media:
    if os.path.isdir(path):  # False, too, for a name that cannot be
        try:
            files = sorted(f for f in path.iterdir() if _is_image_name(f))
        except OSError as error:
            raise BadFileError(str(path), error.strerror or str(error)) from None
        if not files:
            raise BadFileError(str(path), "has no images")
        return _images(files)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _video(str(path), kind="video")
    return Media(lambda on_error: _read_all([path], on_error))


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def _images(sources: Sequence[Any]) -> Media:
    return Media(lambda on_error: _read_all(sources, on_error), kind="images", count=len(sources))


def _read_all(sources: Iterable[Any], on_error: OnError) -> Iterator[Picture]:
    for source in sources:
        try:
            yield to_picture(source)
        except BadFileError as error:
            on_error(error)


def _video(source: str | int, *, kind: str) -> Media:
    """Frames of a file, a stream or a camera, which is open until they have been read."""
    name = f"camera {source}" if isinstance(source, int) else source
    if kind == "video" and not os.path.isfile(name):
        raise BadFileError(name, "No such file or directory")
    try:
        name.encode()
    except UnicodeEncodeError:  # at which OpenCV crashes
        raise BadFileError(name, "a video's name must be UTF-8") from None
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        reason = "cannot be read as a video" if kind == "video" else "cannot be opened"
        raise BadFileError(name, f"{reason} (or its codec is missing)")
    frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    if frames > 0:
        kind = "video"  # also a URL's, if that is of a file
    return Media(
        lambda on_error: _read_frames(capture, name, on_error, waits=kind == "video"),
        kind=kind,
        count=frames or None,
        fps=max(capture.get(cv2.CAP_PROP_FPS), 0.0),
    )


def _read_frames(
    capture: cv2.VideoCapture, name: str, on_error: OnError, *, waits: bool
) -> Iterator[Picture]:
    """All frames of what waits until they have been looked at; of others always the newest."""
    frames = _frames(capture)
    is_empty = True
    try:
        for number, frame in frames if waits else newest(frames):
            is_empty = False
            yield Picture(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), name, number)
    finally:
        capture.release()
    if is_empty:
        on_error(BadFileError(name, "has no frame that can be read"))


def _frames(capture: cv2.VideoCapture) -> Iterator[tuple[int, np.ndarray]]:
    for number in count():
        is_there, frame = capture.read()
        if not is_there:
            return
        yield number, frame


def newest(items: Iterator[T]) -> Iterator[T]:
    """What comes while nobody looks is passed over, all but the last: a camera does not wait."""
    waiting: Queue[T] = Queue(maxsize=1)
    has_stopped = Event()

    def keep_newest() -> None:
        for item in items:
            if has_stopped.is_set():
                return
            with suppress(Empty):
                waiting.get_nowait()
            waiting.put(item)

    reader = Thread(target=keep_newest, name=newest.__name__, daemon=True)
    reader.start()
    try:
        while reader.is_alive() or not waiting.empty():
            with suppress(Empty):
                yield waiting.get(timeout=0.1)
    finally:
        has_stopped.set()
        reader.join()  # before somebody closes what it reads from
