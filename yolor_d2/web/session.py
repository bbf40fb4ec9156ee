"""What the web page does, without the page: predict once, then draw and write down as often as
somebody moves a slider."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2

from ..inference.media import Picture
from ..inference.prediction import Prediction
from ..inference.predictor import Predictor
from ..visualization import LAYERS
from .uploads import Upload, read_upload

JPEG_QUALITY = 92


@dataclass(frozen=True)
class View:
    """What is to be seen of a prediction.

    Attributes:
        layers: some of `visualization.LAYERS`; none: the picture alone.
        opacity: of masks and maps.
        score: objects below are left out.
        panoptic_score: things of the panoptic map below are left out.
    """

    layers: tuple[str, ...] = LAYERS
    opacity: float = 0.5
    score: float = 0.25
    panoptic_score: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A picture that the network has been asked about.

    Attributes:
        upload: the picture.
        prediction: with everything down to the lowest threshold.
        seconds: what the parts took.
    """

    upload: Upload
    prediction: Prediction
    seconds: dict[str, float]


class Network:
    """A predictor that several threads may ask; one picture is in it at a time.

    Args:
        predictor: whose threshold is the lowest that anybody can choose.
        max_pixels: larger pictures are scaled down before the network sees them.
    """

    def __init__(self, predictor: Predictor, *, max_pixels: int) -> None:
        self.predictor = predictor
        self.max_pixels = max_pixels
        self._lock = threading.Lock()

    @property
    def panoptic_floor(self) -> float | None:
        """The lowest score of things in panoptic maps; None: there are no such maps."""
        merger = self.predictor.model.panoptic
        return None if merger is None else merger.score_threshold

    def see(self, path: str | os.PathLike[str]) -> Seen:
        """Predict on a file.

        Raises:
            BadUploadError: it is no picture that can be used.
        """
        seconds: dict[str, float] = {}
        with _clock(seconds, "reading"):
            upload = read_upload(path, max_pixels=self.max_pixels)
        with self._lock, _clock(seconds, "network"):
            (prediction,) = self.predictor.predict([Picture(upload.pixels, upload.name)])
        return Seen(upload, prediction, seconds)


def picture_of(seen: Seen, view: View) -> tuple[bytes, float]:
    """A JPEG of what is to be seen, and the seconds that it took."""
    seconds: dict[str, float] = {}
    with _clock(seconds, "drawing"):
        shown = _above(seen.prediction, view)
        if not view.layers:  # for `draw` that means those that make sense
            shown = replace(shown, instances=None, sem_seg=None, panoptic_seg=None, caption=None)
        picture = shown.draw(view.layers, score_threshold=view.score, opacity=view.opacity)
        pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return content.tobytes(), seconds["drawing"]


def json_of(seen: Seen, view: View) -> bytes:
    """`Prediction.to_json` of what is above the thresholds, be it drawn or not."""
    content = _above(seen.prediction, view).to_json()
    if seen.upload.is_scaled:
        content["scaled_from"] = {"width": seen.upload.width, "height": seen.upload.height}
    return json.dumps(content, allow_nan=False).encode()


def size_of(seen: Seen) -> str:
    """What was made of the picture, for whom it belongs to."""
    height, width = seen.upload.pixels.shape[:2]
    size = f"{width} x {height} pixels"
    if not seen.upload.is_scaled:
        return size
    return f"Scaled down from {seen.upload.width} x {seen.upload.height} to {size}."


def times_of(seen: Seen, drawing: float) -> str:
    seconds = {**seen.seconds, "drawing": drawing}
    return ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in seconds.items())


def _above(prediction: Prediction, view: View) -> Prediction:
    """What is above the thresholds."""
    changes: dict[str, Any] = {}
    if prediction.instances is not None:
        changes["instances"] = prediction.instances[prediction.instances.scores >= view.score]
    if prediction.panoptic_seg is not None:
        ids, segments = prediction.panoptic_seg
        kept = [s for s in segments if s.get("score", 1.0) >= view.panoptic_score]
        changes["panoptic_seg"] = ids, kept
    return replace(prediction, **changes)


@contextmanager
def _clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
