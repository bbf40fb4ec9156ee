"""Predictions of the web page: computed once per picture, drawn once per change of the options."""

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

LOWEST_SCORE = 0.05  # of the predictor; the score slider cannot go below
JPEG_QUALITY = 92


@dataclass(frozen=True)
class DisplayOptions:
    """Display options of a prediction.

    Attributes:
        layers: a subset of `visualization.LAYERS`; if empty, only the picture is shown.
        opacity: opacity of masks and maps.
        score: score threshold of objects.
        panoptic_score: score threshold of things in the panoptic map.
    """

    layers: tuple[str, ...] = LAYERS
    opacity: float = 0.5
    score: float = 0.25
    panoptic_score: float = 0.0


@dataclass(frozen=True)
class PredictedUpload:
    """An upload and its prediction.

    Attributes:
        upload: the picture.
        prediction: its prediction, with all objects above the predictor's threshold.
        seconds: duration of each step.
    """

    upload: Upload
    prediction: Prediction
    seconds: dict[str, float]


class SharedPredictor:
    """A predictor for several threads, which predicts on one picture at a time.

    Args:
        predictor: a predictor with the lowest score threshold that users can choose.
        max_pixels: larger pictures are scaled down.
    """

    def __init__(self, predictor: Predictor, *, max_pixels: int) -> None:
        self.predictor = predictor
        self.max_pixels = max_pixels
        self._lock = threading.Lock()

    @property
    def lowest_panoptic_score(self) -> float | None:
        """The lowest score of things in panoptic maps; None without a panoptic map."""
        merger = self.predictor.model.panoptic
        return None if merger is None else merger.score_threshold

    def predict_file(self, path: str | os.PathLike[str]) -> PredictedUpload:
        """Predict on a file.

        Raises:
            BadUploadError: the file cannot be used.
        """
        seconds: dict[str, float] = {}
        with _clock(seconds, "reading"):
            upload = read_upload(path, max_pixels=self.max_pixels)
        with self._lock, _clock(seconds, "network"):
            (prediction,) = self.predictor.predict([Picture(upload.pixels, upload.name)])
        return PredictedUpload(upload, prediction, seconds)


def draw_picture(predicted: PredictedUpload, options: DisplayOptions) -> tuple[bytes, float]:
    """Return a prediction as JPEG, and the drawing time in seconds."""
    seconds: dict[str, float] = {}
    with _clock(seconds, "drawing"):
        shown = _above(predicted.prediction, options)
        if not options.layers:  # `draw` would choose layers
            shown = replace(shown, instances=None, sem_seg=None, panoptic_seg=None, caption=None)
        picture = shown.draw(options.layers, score_threshold=options.score, opacity=options.opacity)
        pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return content.tobytes(), seconds["drawing"]


def encode_json(predicted: PredictedUpload, options: DisplayOptions) -> bytes:
    """Encode `Prediction.to_json` above the thresholds; it does not depend on the layers."""
    content = _above(predicted.prediction, options).to_json()
    if predicted.upload.is_scaled:
        content["scaled_from"] = {
            "width": predicted.upload.width,
            "height": predicted.upload.height,
        }
    return json.dumps(content, allow_nan=False).encode()


def size_text(predicted: PredictedUpload) -> str:
    """Return a text for the user about the size of the picture."""
    height, width = predicted.upload.pixels.shape[:2]
    size = f"{width} x {height} pixels"
    if not predicted.upload.is_scaled:
        return size
    return f"Scaled down from {predicted.upload.width} x {predicted.upload.height} to {size}."


def times_text(predicted: PredictedUpload, drawing: float) -> str:
    """Return a text for the user about the duration of each step."""
    seconds = {**predicted.seconds, "drawing": drawing}
    return ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in seconds.items())


def _above(prediction: Prediction, options: DisplayOptions) -> Prediction:
    """Return the prediction without objects and panoptic things below the thresholds."""
    changes: dict[str, Any] = {}
    if prediction.instances is not None:
        changes["instances"] = prediction.instances[prediction.instances.scores >= options.score]
    if prediction.panoptic_seg is not None:
        ids, segments = prediction.panoptic_seg
        kept = [s for s in segments if s.get("score", 1.0) >= options.panoptic_score]
        changes["panoptic_seg"] = ids, kept
    return replace(prediction, **changes)


@contextmanager
def _clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
