"""Backgrounds of the toy scenes: layers of stuff composed to an image and a label map."""

from typing import NamedTuple

import cv2
import numpy as np

from .pixels import Array, per_channel, per_pixel
from .textures import TEXTURES, Canvas
from .truth import STUFF_CLASSES, UPRIGHT_STUFF

# Layers from the top of the image to its lower border.
SETTINGS: dict[str, tuple[str, ...]] = {
    "meadow": ("sky", "grass"),
    "alp": ("sky", "mountain", "grass"),
    "lake": ("sky", "mountain", "water"),
    "pond": ("sky", "water", "grass"),
    "beach": ("sky", "water", "sand"),
    "desert": ("sky", "sand"),
    "sea": ("sky", "water"),
    "snowfield": ("sky", "snow"),
    "glacier": ("sky", "mountain", "snow"),
    "room": ("wall", "floor"),
    "lounge": ("wall", "floor", "carpet"),
}
WEATHERS = ("clear", "cloudy", "sunset")

# Amplitude of a layer's wavy upper border, as a share of the image height, and number of waves.
_WAVES: dict[str, tuple[float, float]] = {
    "grass": (0.018, 1.2),
    "sand": (0.022, 0.9),
    "snow": (0.025, 1.0),
}
_MOUNTAIN = 0.055  # the same of the largest of its waves
_WAVE_FACTOR, _MOUNTAIN_FACTOR = 2.1, 1.95  # from a wave's amplitude to that of the next one
_WAVE_OCTAVES, _MOUNTAIN_OCTAVES = 2, 6


class Light(NamedTuple):
    """Light of a scene: unit vector towards it (x right, y down, z to the viewer), and color."""

    direction: tuple[float, float, float]
    tint: tuple[float, float, float]


class Background(NamedTuple):
    """A background without objects.

    Attributes:
        image: float RGB in 0..1, (H, W, 3).
        labels: index into STUFF_CLASSES of each pixel, uint8 (H, W).
        setting: a key of SETTINGS.
        weather: one of WEATHERS; None indoors.
        ground: first row on which objects can stand.
        light: the light.
    """

    image: Array
    labels: Array
    setting: str
    weather: str | None
    ground: float
    light: Light


def paint_background(rng: np.random.Generator, height: int, width: int) -> Background:
    """Paint a random setting under random light."""
    setting = list(SETTINGS)[rng.integers(len(SETTINGS))]
    layers = SETTINGS[setting]
    indoor = layers[0] == "wall"
    weather = "clear" if indoor else WEATHERS[rng.choice(3, p=(0.45, 0.33, 0.22))]
    canvas = Canvas(rng=rng, height=height, width=width, weather=weather, horizon=0.0)

    tops = _layer_tops(rng, layers)
    windows = _windows(layers, tops, height)
    labels = np.full((height, width), STUFF_CLASSES.index(layers[0]), np.uint8)
    image = np.zeros((height, width, 3), np.float32)
    first = canvas._replace(horizon=tops[1] * height, window=windows[0])
    image[windows[0]] = TEXTURES[layers[0]](first)
    for name, top, window in zip(layers[1:], tops[1:], windows[1:], strict=True):
        if name == "carpet":
            cover, image = _lay_carpet(canvas, image, top * height)
        else:
            border = _border(canvas, name, top * height)
            if layers.index(name) == 2 and "water" in layers and name != "water":
                image = _wet_shore(canvas, image, border)
            part = canvas._replace(horizon=top * height, window=window)
            cover = np.clip(part.rows + 1 - border, 0, 1)
            image[window] = _lay_over(image[window], TEXTURES[name](part), cover)
        labels[window][cover >= 0.5] = STUFF_CLASSES.index(name)
    return Background(
        image=np.clip(image, 0, 1).astype(np.float32),
        labels=labels,
        setting=setting,
        weather=None if indoor else weather,
        ground=height
        * next(top for name, top in zip(layers, tops, strict=True) if name not in UPRIGHT_STUFF),
        light=_light(rng, weather, indoor),
    )


def _layer_tops(rng: np.random.Generator, layers: tuple[str, ...]) -> list[float]:
    """Draw the upper end of each layer, as a share of the height."""
    if len(layers) == 2:
        return [0.0, float(rng.uniform(0.38, 0.62))]
    if layers[1] == "mountain":
        second = rng.uniform(0.22, 0.34)
        return [0.0, float(second), float(second + rng.uniform(0.14, 0.22))]
    second = rng.uniform(0.3, 0.48)
    return [0.0, float(second), float(second + rng.uniform(0.13, 0.24))]


def _windows(layers: tuple[str, ...], tops: list[float], height: int) -> list[slice]:
    """Return the rows in which each layer may be visible: all others need not be painted."""
    reaches = [_reach(name) for name in layers]
    starts = [
        max(int((top - reach) * height) - 1, 0) for top, reach in zip(tops, reaches, strict=True)
    ]
    ends = [
        min(int((top + reach) * height) + 2, height)
        for top, reach in zip(tops[1:], reaches[1:], strict=True)
    ]
    return [slice(start, end) for start, end in zip(starts, [*ends, height], strict=True)]


def _reach(name: str) -> float:
    """Return how far a layer's border is from its mean, at most, as a share of the height."""
    if name == "carpet":
        return 1.0  # It does not cover all rows below its border.
    if name == "mountain":
        return _MOUNTAIN * sum(_MOUNTAIN_FACTOR**-octave for octave in range(_MOUNTAIN_OCTAVES))
    size, _ = _WAVES.get(name, (0.0, 1.0))
    return size * sum(_WAVE_FACTOR**-octave for octave in range(_WAVE_OCTAVES))


def _border(canvas: Canvas, name: str, top: float) -> Array:
    """Return the row of a layer's upper border at each column, (1, W)."""
    if name == "mountain":
        return top - _peaks(canvas)
    size, waves = _WAVES.get(name, (0.0, 1.0))
    border = np.full((1, canvas.width), top, np.float32)
    for octave in range(_WAVE_OCTAVES):
        frequency = _WAVE_FACTOR**octave
        phase = canvas.columns / canvas.width * 2 * np.pi * waves * frequency
        wave = np.sin(phase + canvas.rng.uniform(0, 2 * np.pi))
        border += (size * canvas.height / frequency * wave).astype(np.float32)
    return border


def _peaks(canvas: Canvas) -> Array:
    """Draw the height of a mountain range above its mean, in pixels, (1, W)."""
    height = np.zeros(canvas.width)
    for octave in range(_MOUNTAIN_OCTAVES):
        # Linear interpolation gives sharp summits and saddles.
        heights = canvas.rng.uniform(-1, 1, 5 * 2**octave + 1)
        columns = np.linspace(0, canvas.width, len(heights))
        height += np.interp(np.arange(canvas.width), columns, heights) / _MOUNTAIN_FACTOR**octave
    return (_MOUNTAIN * canvas.height * height).astype(np.float32)[None]


def _wet_shore(canvas: Canvas, image: Array, border: Array) -> Array:
    """Paint foam and shallow water just above the shoreline."""
    above = (border - canvas.rows) / canvas.height + 0.006 * canvas.noise(0.05, stretch=2.0)
    foam = np.exp(-((above / 0.012) ** 2)) * 0.75
    shallow = np.exp(-np.clip(above, 0, None) / 0.05) * 0.45
    green = per_channel(np.array([0.72, 0.86, 0.84], np.float32), canvas.width)
    white = per_channel(np.array([0.97, 0.98, 0.98], np.float32), canvas.width)
    image = image + (green - image) * per_pixel(shallow)
    return image + (white - image) * per_pixel(foam)


def _lay_over(image: Array, texture: Array, cover: Array) -> Array:
    """Paint a texture over an image with a coverage of shape (H, W)."""
    mixed = image * per_pixel(1 - cover)
    mixed += texture * per_pixel(cover)
    return mixed


def _lay_carpet(canvas: Canvas, image: Array, top: float) -> tuple[Array, Array]:
    """Paint a round or square carpet; return its coverage (H, W) in 0..1, and the image."""
    rng, height, width = canvas.rng, canvas.height, canvas.width
    bottom = height * rng.uniform(0.9, 0.98)
    middle = width * rng.uniform(0.42, 0.58)
    half = width * rng.uniform(0.28, 0.38)
    down = (canvas.rows + 0.5 - (top + bottom) / 2) / ((bottom - top) / 2)
    if rng.random() < 0.5:
        distance = np.hypot(down, (canvas.columns + 0.5 - middle) / half)
    else:
        narrowing = half * (0.86 + 0.14 * down)
        distance = np.maximum(np.abs(down), np.abs(canvas.columns + 0.5 - middle) / narrowing)
    inside = (1 - distance) * (bottom - top) / 2
    cover = np.clip(inside + 0.5, 0, 1)
    texture = TEXTURES["carpet"](canvas._replace(horizon=top))
    band = ((distance > 0.80) & (distance < 0.90)) | ((distance > 0.66) & (distance < 0.70))
    pale = per_channel(np.array([0.93, 0.88, 0.78], np.float32), width)
    blurred = cv2.GaussianBlur(band.astype(np.float32), (3, 3), 0)
    texture = texture + (pale - texture) * per_pixel(0.75 * blurred)
    shadow = 1 - 0.35 * np.exp(-np.clip(-inside, 0, None) / (0.012 * height))
    return cover, _lay_over(image * per_pixel(shadow), texture, cover)


def _light(rng: np.random.Generator, weather: str, indoor: bool) -> Light:
    across = rng.choice((-1.0, 1.0)) * rng.uniform(0.25, 0.6)
    direction = np.array([across, -rng.uniform(0.5, 0.75), 0.75])
    direction /= np.linalg.norm(direction)
    if indoor:
        warm = rng.uniform(-0.02, 0.05)
        tint = (1 + warm, 1.0, 1 - 1.4 * warm)
    else:
        tint = {
            "clear": (1.0, 1.0, 0.98),
            "cloudy": (0.96, 0.98, 1.0),
            "sunset": (1.04, 0.96, 0.88),
        }[weather]
    x, y, z = direction.tolist()
    return Light(direction=(x, y, z), tint=tint)
