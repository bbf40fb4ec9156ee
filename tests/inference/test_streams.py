"""Live sources: cameras on the network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from threading import Event, Thread
from time import sleep
from typing import Any

import cv2
import numpy as np
import pytest

from yolor_d2.inference.media import newest, open_media, raise_error


def test_the_last_frame_is_never_skipped() -> None:
    sent, consumed = Event(), Event()

    def camera() -> Iterator[int]:
        yield from range(10)
        sent.set()
        assert consumed.wait(10)
        yield 10

    frames = newest(camera())
    assert next(frames) < 10
    assert sent.wait(10)
    consumed.set()
    assert list(frames)[-1] == 10


def test_skipped_frames_are_never_returned() -> None:
    sent = Event()

    def camera() -> Iterator[int]:
        yield from range(10)
        sent.set()

    frames = newest(camera())
    first = next(frames)
    assert sent.wait(10)
    assert list(frames) == [9] * (first < 9)


def test_errors_of_the_reading_thread_reach_the_caller() -> None:
    def camera() -> Iterator[int]:
        yield 0
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(newest(camera()))


def test_a_stream_until_it_is_closed() -> None:
    with streaming(cycle(range(0, 250, 10))) as url:
        media = open_media(url)
        assert (media.kind, media.count) == ("live", None)
        pictures = media.pictures(raise_error)
        received = []
        for picture in pictures:
            received.append(picture)
            sleep(0.05)  # a network is slower than a camera
            if len(received) == 5:
                break
        pictures.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [thread for thread in threading.enumerate() if thread.name == newest.__name__]
    assert {picture.name for picture in received} == {url}
    assert {picture.pixels.shape for picture in received} == {(48, 64, 3)}
    numbers = [picture.frame or 0 for picture in received]
    assert numbers == sorted(set(numbers))


@contextmanager
def streaming(shades: Iterator[int]) -> Iterator[str]:
    """The URL of a camera that sends endless JPEGs."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):  # the client disconnects
                for shade in shades:
                    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), shade, np.uint8))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                    self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")
                    sleep(0.01)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/camera.mjpg"
    finally:
        server.shutdown()
        server.server_close()
