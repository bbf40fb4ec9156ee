"""Output files of predictions: pictures, videos and JSON lines."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TextIO

import cv2
import numpy as np
from tqdm import tqdm

from ..errors import OptionError, OutputError, PackageError
from ..files import replace_file, shorten_name
from ..visualization import BACKGROUND, caption_strip, check_opacity, compatible_layers
from .media import Media, OnError, open_inputs
from .prediction import Json, Prediction, describe
from .predictor import Predictor

LINES = "predictions.jsonl"
# In order of preference; which of them OpenCV can write depends on its build.
VIDEO_FORMATS = ((".mp4", "mp4v"), (".avi", "MJPG"))
JPEG_SIDE = 65_500  # limit of OpenCV
DEFAULT_FPS = 25.0
CAPTION_LINES = 3  # room below a video, whose frames all have one size

Sink = Callable[[Prediction], Json]


def layers_to_draw(chosen: Sequence[str], available: Sequence[str]) -> Sequence[str]:
    """Return the chosen layers; by default all available ones, but only one map.

    Raises:
        ValueError: a chosen layer is not available.
    """
    if missing := [layer for layer in chosen if layer not in available]:
        raise OptionError(
            f"layers {', '.join(missing)}: not predicted by this network; its layers are "
            f"{', '.join(available)}"
        )
    return chosen or compatible_layers(available)


class Output:
    """A context manager that writes predictions to a folder.

    Args:
        folder: created if missing. It must not contain inputs. Pictures of earlier predictions are
            removed if they have not been changed since; no other file is removed or overwritten.
        inputs: paths, camera numbers and URLs.
        layers: layers to draw.
        opacity: opacity of masks and maps, 0 to 1.

    Attributes:
        seconds: durations of the written predictions.
    """

    def __init__(
        self,
        folder: Path,
        *,
        inputs: Sequence[str],
        layers: Sequence[str],
        opacity: float = 0.5,
    ) -> None:
        check_opacity(opacity)
        place = folder.resolve()
        for name in inputs:
            home = name if os.path.isdir(name) else os.path.dirname(name)
            if os.path.exists(name) and Path(home).resolve() == place:
                raise OutputError(f"{folder}: contains {name}; choose another output folder")
        self.folder = folder
        self.draw = partial(Prediction.draw, layers=layers, opacity=opacity)
        self.seconds: list[float] = []
        self._taken = {LINES}
        self._lines: TextIO | None = None

    def __enter__(self) -> "Output":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._lines is not None:
            self._lines.close()
            os.utime(self.folder / LINES)  # not older than a video, complete after its lines

    def _begin(self) -> None:
        """Remove earlier predictions before the first new one."""
        if self._lines is not None:
            return
        path = self.folder / LINES
        for picture in earlier_pictures(path):
            picture.unlink()
        path.unlink(missing_ok=True)  # it may be a link to a file elsewhere
        self._lines = path.open("w", encoding="utf-8")

    @contextmanager
    def sink(self, media: Media) -> Iterator[Sink]:
        """Return a context with a function that writes the predictions of a video or of images.

        The function returns the written JSON.
        """
        if media.kind == "images":
            yield self._write_picture
            return
        video = Video(self.folder, self._free_name, fps=media.fps or DEFAULT_FPS)
        with video:

            def append(prediction: Prediction) -> Json:
                self._begin()
                name = video.add(prediction, self.draw(prediction))
                return self._write_line(prediction, name)

            yield append

    def _write_picture(self, prediction: Prediction) -> Json:
        self._begin()
        picture = cv2.cvtColor(self.draw(prediction), cv2.COLOR_RGB2BGR)
        suffix = ".jpg" if max(picture.shape) <= JPEG_SIDE else ".png"
        name = self._free_name(prediction.source, suffix)
        content = cv2.imencode(suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        replace_file(self.folder / name, content.tobytes())
        return self._write_line(prediction, name)

    def _write_line(self, prediction: Prediction, picture: str) -> Json:
        assert self._lines is not None
        content = {**prediction.to_json(), "picture": picture}
        self._lines.write(json.dumps(content, allow_nan=False) + "\n")
        self._lines.flush()  # for readers during the run
        self.seconds.append(prediction.seconds)
        return content

    def _free_name(self, source: str, suffix: str) -> str:
        """Return an unused file name with the stem of the source."""
        stem = "stream" if "://" in source else Path(source).stem.replace(" ", "_")
        stem = shorten_name(stem)
        name, number = f"{stem}{suffix}", 1
        # File systems can be case-insensitive.
        while name.lower() in self._taken or os.path.lexists(self.folder / name):
            number += 1
            name = f"{stem}_{number}{suffix}"
        self._taken.add(name.lower())
        return name


def earlier_pictures(lines: Path) -> list[Path]:
    """Pictures that earlier predictions wrote and that are not newer than their file of lines."""
    found: set[Path] = set()
    if lines.is_symlink() or not lines.is_file():
        return []
    for line in lines.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            name = json.loads(line)["picture"]
        except (ValueError, KeyError, TypeError):
            return []  # another program wrote it
        path = lines.parent / str(name)
        is_inside = path.parent == lines.parent and path.is_file() and not path.is_symlink()
        if is_inside and path.stat().st_mtime_ns <= lines.stat().st_mtime_ns:
            found.add(path)
    return sorted(found)


class Video:
    """A context manager that writes a video, which gets its final name when complete.

    Args:
        folder: output folder.
        free_name: returns an unused file name for a source and a suffix.
        fps: frames per second.
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
        """Append the picture of a prediction; returns the name of the video."""
        if self._writer is None:
            self._begin(prediction, picture)
        assert self._writer is not None
        self._canvas[:] = BACKGROUND
        height, width = np.minimum(picture.shape[:2], self._canvas.shape[:2])
        self._canvas[:height, :width] = picture[:height, :width]
        frame, number = cv2.cvtColor(self._canvas, cv2.COLOR_RGB2BGR), prediction.frame or 0
        for _ in range(self._frames, number + 1):  # repeated for skipped live frames
            self._writer.write(frame)
        self._frames = number + 1
        return self._name

    def _begin(self, prediction: Prediction, picture: np.ndarray) -> None:
        """Open the file, with room for the longest caption."""
        height, width = picture.shape[:2]
        if prediction.caption is not None:
            height += (CAPTION_LINES - 1) * caption_strip("", width).shape[0]
        size = (width + width % 2, height + height % 2)  # codecs need even sides
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
        raise PackageError(f"{self._folder}: this OpenCV build has no codec to write videos")


def write_predictions(
    predictor: Predictor,
    inputs: Sequence[str],
    output: Output,
    *,
    on_error: OnError,
    report: Callable[[str], None],
) -> None:
    """Predict on all inputs and write the results.

    Args:
        predictor: the predictor to run.
        inputs: paths, camera numbers and URLs.
        output: the output, entered as a context.
        on_error: called with the error of each file that cannot be read.
        report: called with a line about each image, and about each video when it has ended.
    """
    for media in open_inputs(inputs, on_error=on_error):
        predictions = predictor.stream(media, on_error=on_error)
        first, name = len(output.seconds), ""
        with output.sink(media) as sink, tqdm(total=media.count, disable=None) as bar:
            try:
                for prediction in predictions:
                    name = prediction.source
                    content = sink(prediction)
                    if media.kind == "images":
                        report(f"{name}: {describe(content)}; {1000 * prediction.seconds:.0f} ms")
                    bar.update()
            except KeyboardInterrupt:  # the only way to end a live source
                if media.kind != "live":
                    raise
        seconds = output.seconds[first:]
        if media.kind != "images" and seconds:
            report(f"{name}: {len(seconds)} frames; {milliseconds(seconds)} ms a frame")


def milliseconds(seconds: Sequence[float]) -> str:
    """Return the median of durations in whole milliseconds."""
    return f"{1000 * median(seconds):.0f}"
