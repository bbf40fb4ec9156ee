"""Predictions of the web page: one thread, and a limited number of waiting pictures."""

import time
from base64 import b64encode
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

import cv2
import numpy as np

from ..errors import WebError
from ..inference.media import Picture
from ..inference.predictor import Predictor
from .uploads import Upload, read_upload

LOWEST_SCORE = 0.05  # of the predictor; the score threshold of the page cannot go below
JPEG_QUALITY = 90

Json = dict[str, Any]


class BusyError(WebError):
    """There is no prediction because of other pictures; the message is for the user."""


class PredictionQueue:
    """Predicts one picture at a time; only then is it decoded.

    Args:
        predictor: a predictor with the lowest score threshold that users can choose.
        max_pixels: larger pictures are scaled down.
        max_waiting: pictures in the queue, with the one that is being predicted.
        seconds: longest wait for an answer.
    """

    def __init__(
        self, predictor: Predictor, *, max_pixels: int, max_waiting: int = 32, seconds: float = 120
    ) -> None:
        self.predictor = predictor
        self.max_pixels = max_pixels
        self.seconds = seconds
        self._places = BoundedSemaphore(max_waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prediction")

    def predict(self, content: bytes, name: str) -> Json:
        """Wait for the answer about a picture.

        Args:
            content: the file.
            name: its name in the answer.

        Raises:
            BadUploadError: the file cannot be used.
            BusyError: too many pictures are waiting, or they take too long.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("Too many pictures are waiting. Try again in a moment.")
        try:
            future = self._thread.submit(self._answer, content, name)
        except RuntimeError:  # closed
            self._places.release()
            raise BusyError("The server is stopping.") from None
        future.add_done_callback(self._leave)
        try:
            return future.result(self.seconds)
        except TimeoutError:
            future.cancel()
            raise BusyError(f"There was no answer within {self.seconds:g} seconds.") from None
        except CancelledError:
            raise BusyError("The server is stopping.") from None

    def close(self) -> None:
        """Refuse the waiting pictures."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _leave(self, future: Future[Json]) -> None:
        self._places.release()

    def _answer(self, content: bytes, name: str) -> Json:
        start = time.perf_counter()
        upload = read_upload(content, max_pixels=self.max_pixels)
        decoded = time.perf_counter()
        (prediction,) = self.predictor.predict([Picture(upload.pixels, name)])
        predicted = time.perf_counter()
        found = prediction.to_json() | _scaling(upload)
        seconds = {"reading": decoded - start, "network": predicted - decoded}
        picture = None if upload.looks_same else _data_url(upload.pixels)
        return {"prediction": found, "seconds": seconds, "picture": picture}


def _scaling(upload: Upload) -> Json:
    size = {"width": upload.width, "height": upload.height}
    return {"scaled_from": size} if upload.is_scaled else {}


def _data_url(pixels: np.ndarray) -> str:
    """Return RGB pixels as a JPEG in an address."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{b64encode(data.tobytes()).decode()}"
