"""What the demo writes into its folder: pictures, videos, lines of JSON."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from ..files import replace_file
from ..visualization import BACKGROUND, caption_strip
from .media import Media
from .prediction import Prediction

LINES = "predictions.jsonl"
# Those that OpenCV mostly can write, the better first.
VIDEO_FORMATS = ((".mp4", "mp4v"), (".avi", "MJPG"))
JPEG_SIDE = 65_500  # which OpenCV writes at most
DEFAULT_FPS = 25.0
CAPTION_ROOM = 3  # lines below a video, whose frames are all of one size

Sink = Callable[[Prediction], None]


class Output:
    """The folder, open while predictions are made.

    Args:
        folder: made if need be. It holds no inputs, so that none is overwritten.
        inputs: of the demo.
        layers: what is drawn.
        opacity: of masks and maps, 0 to 1.

    Attributes:
        count: predictions so far.
    """

    def __init__(
        self,
        folder: Path,
        *,
        inputs: Sequence[str],
        layers: Sequence[str],
        opacity: float = 0.5,
    ) -> None:
        place = folder.resolve()
        for name in inputs:
            home = name if os.path.isdir(name) else os.path.dirname(name)
            if os.path.exists(name) and Path(home).resolve() == place:
                raise ValueError(f"{folder}: has {name} in it, choose another folder for output")
        self.folder = folder
        self.draw = partial(Prediction.draw, layers=layers, opacity=opacity)
        self.count = 0
        self._taken = {LINES}

    def __enter__(self) -> "Output":
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LINES
        path.unlink(missing_ok=True)  # it may be a link to what somebody still needs
        self._lines: TextIO = path.open("w", encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()

    @contextmanager
    def sink(self, media: Media) -> Iterator[Sink]:
        """What takes the predictions of a video, or of images."""
        if media.kind == "images":
            yield self._write_picture
            return
        video = Video(self.folder, self._free_name, fps=media.fps or DEFAULT_FPS)
        with video:

            def append(prediction: Prediction) -> None:
                name = video.add(prediction, self.draw(prediction))
                self._write_line(prediction, name)

            yield append

    def _write_picture(self, prediction: Prediction) -> None:
        picture = cv2.cvtColor(self.draw(prediction), cv2.COLOR_RGB2BGR)
        suffix = ".jpg" if max(picture.shape) <= JPEG_SIDE else ".png"
        name = self._free_name(prediction.source, suffix)
        content = cv2.imencode(suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        replace_file(self.folder / name, content.tobytes())
        self._write_line(prediction, name)

    def _write_line(self, prediction: Prediction, picture: str) -> None:
        content = {**prediction.to_json(), "picture": picture}
        self._lines.write(json.dumps(content, allow_nan=False) + "\n")
        self._lines.flush()  # somebody may be reading along
        self.count += 1

    def _free_name(self, source: str, suffix: str) -> str:
        """A file's name like that of the source, of which there may be several in this run."""
        stem = "stream" if "://" in source else Path(source).stem.replace(" ", "_")
        name, number = f"{stem}{suffix}", 1
        while name.lower() in self._taken:  # some file systems know no case
            number += 1
            name = f"{stem}_{number}{suffix}"
        self._taken.add(name.lower())
        return name


class Video:
    """A video of predictions, which takes its name when it is complete.

    Args:
        folder: to write to.
        free_name: makes of a source and a suffix the name of a file.
        fps: frames a second.
    """

    def __init__(self, folder: Path, free_name: Callable[[str, str], str], *, fps: float) -> None:
        self._folder = folder
        self._free_name = free_name
        self._fps = fps
        self._name = ""
        self._temporary = Path()
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0
        self._canvas = np.empty((0, 0, 3), np.uint8)

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.release()
            os.replace(self._temporary, self._folder / self._name)

    def add(self, prediction: Prediction, picture: np.ndarray) -> str:
        """Append the picture of a prediction; the video's name."""
        if self._writer is None:
            self._begin(prediction, picture)
        assert self._writer is not None
        self._canvas[:] = BACKGROUND
        height, width = np.minimum(picture.shape[:2], self._canvas.shape[:2])
        self._canvas[:height, :width] = picture[:height, :width]
        frame, number = cv2.cvtColor(self._canvas, cv2.COLOR_RGB2BGR), prediction.frame or 0
        for _ in range(self._frames, number + 1):  # more than one where a camera did not wait
            self._writer.write(frame)
        self._frames = number + 1
        return self._name

    def _begin(self, prediction: Prediction, picture: np.ndarray) -> None:
        """Open the file, as large as any frame's picture will be."""
        height, width = picture.shape[:2]
        if prediction.caption is not None:
            height += (CAPTION_ROOM - 1) * caption_strip("", width).shape[0]
        size = (width + width % 2, height + height % 2)  # codecs want even sides
        for suffix, codec in VIDEO_FORMATS:
            self._temporary = self._folder / f".video{suffix}"
            writer = cv2.VideoWriter(
                str(self._temporary), cv2.VideoWriter.fourcc(*codec), self._fps, size
            )
            if writer.isOpened():
                self._writer = writer
                self._canvas = np.empty((size[1], size[0], 3), np.uint8)
                self._name = self._free_name(prediction.source, suffix)
                return
        raise OSError(f"{self._folder}: this OpenCV has no codec to write a video")
