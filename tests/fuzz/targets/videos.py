"""Video files, read as by predictions."""

from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from yolor_d2.errors import BadFileError
from yolor_d2.inference.media import open_media

from ..byte_mutators import mutate_bytes
from ..cases import GIVEN, Case, Target
from ..corpus import Files, pixels

FRAMES, WIDTH, HEIGHT = 8, 64, 48
MOST_FRAMES = 3000
CODECS = {"a.avi": "MJPG", "b.avi": "XVID", "c.mp4": "mp4v", "d.mkv": "mp4v"}


def prepare() -> Files:
    """Return videos of the codecs that OpenCV can write here."""
    found = {}
    with TemporaryDirectory() as folder:
        for name, codec in CODECS.items():
            path = Path(folder) / name
            four = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(path), four, 10.0, (WIDTH, HEIGHT))
            for number in range(FRAMES):
                writer.write(np.roll(pixels(WIDTH, HEIGHT), number, axis=1))
            writer.release()
            if path.is_file() and path.stat().st_size:
                found[name] = path.read_bytes()
    assert "a.avi" in found
    return found


def mutate(rng: Random, index: int, corpus: Files) -> Case:
    """Change the bytes of a video, most often in its headers."""
    name = rng.choice(sorted(corpus))
    data = corpus[name]
    kind = rng.random()
    if kind < 0.03:
        return Case({name: data}, FRAMES, f"{name}: unchanged")
    if kind < 0.5:
        head, what = mutate_bytes(rng, data[:600])
        return Case({name: head + data[600:]}, None, f"{name}: header: {what}")
    if kind < 0.7:
        tail, what = mutate_bytes(rng, data[-1200:])
        return Case({name: data[:-1200] + tail}, None, f"{name}: end: {what}")
    data, what = mutate_bytes(rng, data)
    return Case({name: data}, None, f"{name}: {what}")


def run(corpus: Files, case: Case) -> int | None:
    """Read all frames."""
    (name,) = case.files
    errors: list[BadFileError] = []
    media = open_media(f"{GIVEN}/{name}")
    assert media.fps >= 0
    count = 0
    for picture in islice(media.pictures(errors.append), MOST_FRAMES):
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.ndim == 3 and picture.pixels.shape[2] == 3  # noqa: PT018
        assert picture.frame == count
        count += 1
    if errors:
        raise errors[0]
    assert count > 0, "neither frames nor an error"
    assert case.arguments in (None, count), f"{count} frames"
    return None


VIDEOS = Target(
    about="video files; right: numbered RGB frames, all of an unchanged file",
    prepare=prepare,
    mutate=mutate,
    run=run,
)
