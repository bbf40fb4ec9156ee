"""Outlines of the toy scenes' objects, and their rendering with light and shadow."""

from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from .backgrounds import Light
from .pixels import Array, per_channel, per_pixel
from .truth import COLORS

_SHIFT = 4  # Fractional bits of the coordinates given to cv2.fillPoly.
_FINISHES = ("matte", "glossy", "beveled")


class Placement(NamedTuple):
    """One shape in the image; `center` (x, y) and `size`, its longer side, are in pixels."""

    thing: str
    color: str
    center: tuple[float, float]
    size: float
    angle: float
    finish: str


class Patch(NamedTuple):
    """Coverage of one shape, (h, w) in 0..1, with its first pixel at (left, top) of the image.

    It can exceed the borders of the image.
    """

    cover: Array
    left: int
    top: int


# Degrees. Larger angles would make a shape resemble another one: a box a diamond.
_MAX_ANGLES = {
    "ball": 0,
    "box": 18,
    "heart": 22,
    "triangle": 20,
    "diamond": 14,
    "cross": 20,
    "drop": 22,
}


def random_angle(rng: np.random.Generator, thing: str) -> float:
    """Draw an angle in degrees at which the class is recognizable."""
    limit = _MAX_ANGLES.get(thing, 180)
    return float(rng.uniform(-limit, limit))


def random_finish(rng: np.random.Generator, thing: str) -> str:
    """Draw the surface of an object."""
    # A beveled ball would look like a coin.
    choices = _FINISHES[:2] if thing == "ball" else _FINISHES
    return choices[rng.integers(len(choices))]


@lru_cache(maxsize=128)  # of the objects of an image
def outline(placement: Placement) -> Array:
    """Return the corners of a shape in the image, (K, 2); its longer side is exactly `size`."""
    angle = np.deg2rad(placement.angle)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = _unit_outline(placement.thing) @ turn
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) * (placement.size / (high - low).max())
    return points + np.array(placement.center)


def rasterize(placement: Placement) -> Patch:
    """Rasterize a shape with antialiasing."""
    points = outline(placement)
    left, top = np.floor(points.min(axis=0)).astype(int) - 1
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 1
    scale = 4
    mask = _fill((points - (left, top)) * scale, (bottom - top) * scale, (right - left) * scale)
    cover = cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    return Patch(cover=cover.astype(np.float32) / 255, left=int(left), top=int(top))


def paint(image: Array, placement: Placement, patch: Patch, light: Light) -> None:
    """Paint a shape onto the image, float RGB (H, W, 3), in place."""
    rows, columns, part = visible_window(patch, image.shape[0], image.shape[1])
    surface = _shade(placement, patch, light)[part]
    cover = per_pixel(patch.cover[part])
    image[rows, columns] = image[rows, columns] * (1 - cover) + surface * cover


def visible_window(
    patch: Patch, height: int, width: int
) -> tuple[slice, slice, tuple[slice, slice]]:
    """Return rows and columns of the image under a patch, and the same part of the patch."""
    top, left = max(patch.top, 0), max(patch.left, 0)
    bottom = max(min(patch.top + patch.cover.shape[0], height), top)
    right = max(min(patch.left + patch.cover.shape[1], width), left)
    part = (
        slice(top - patch.top, bottom - patch.top),
        slice(left - patch.left, right - patch.left),
    )
    return slice(top, bottom), slice(left, right), part


def cast_shadow(image: Array, placement: Placement, light: Light, *, standing: bool) -> None:
    """Darken the image in the shadow of a shape, on the ground or on a wall behind it."""
    points = outline(placement)
    away_x, away_y = -light.direction[0], -light.direction[1]
    if standing:
        bottom = points[:, 1].max()
        rise = bottom - points[:, 1]
        points = np.stack([points[:, 0] + 0.55 * away_x * rise, bottom - 0.2 * rise], axis=1)
        points[:, 1] += 0.02 * placement.size
    else:
        points = points + 0.07 * placement.size * np.array([away_x, away_y])
    blur = max(0.035 * placement.size, 0.6)
    margin = int(3 * blur) + 2
    left, top = np.floor(points.min(axis=0)).astype(int) - margin
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + margin
    mask = _fill(points - (left, top), bottom - top, right - left).astype(np.float32) / 255
    shadow = cv2.GaussianBlur(mask, (0, 0), blur)
    patch = Patch(cover=shadow, left=int(left), top=int(top))
    rows, columns, part = visible_window(patch, image.shape[0], image.shape[1])
    strength = np.array([0.44, 0.42, 0.36], np.float32)  # Outdoor shadows are bluish.
    cover = patch.cover[part]
    image[rows, columns] *= 1 - per_channel(strength, cover.shape[1]) * per_pixel(cover)


def _shade(placement: Placement, patch: Patch, light: Light) -> Array:
    """Shade a shape like a cushion in the scene's light, RGB (h, w, 3)."""
    scale = 3 if placement.size < 40 else 2 if placement.size < 90 else 1
    height, width = patch.cover.shape
    points = (outline(placement) - (patch.left, patch.top)) * scale
    size = placement.size * scale
    if placement.thing == "ball":  # Exact: the distance transform would show spokes on a sphere.
        middle_x, middle_y = points.mean(axis=0) - 0.5
        rows, columns = np.ogrid[: height * scale, : width * scale]
        radius = np.hypot(columns - middle_x, rows - middle_y)
        distance = np.clip(size / 2 - radius, 0, None).astype(np.float32)
    else:
        mask = _fill(points, height * scale, width * scale)
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # OpenCV's last bit depends on memory alignment; squared pixel distances are integers.
        distance = np.sqrt(np.rint(distance**2))
    deepest = max(float(distance.max()), 1.0)
    bevel = min(0.13 * size, deepest) if placement.finish == "beveled" else deepest
    inward = np.clip(distance / bevel, 0, 1)
    cushion = bevel * np.sqrt(1 - (1 - inward) ** 2)
    # Smooth the ridges of the distance transform, which a ball does not have.
    smooth = max(0.012 * size if placement.thing == "ball" else 0.035 * size, 0.6)
    cushion = cv2.GaussianBlur(cushion, (0, 0), smooth)
    normal_x = -cv2.Sobel(cushion, cv2.CV_32F, 1, 0, scale=0.125)
    normal_y = -cv2.Sobel(cushion, cv2.CV_32F, 0, 1, scale=0.125)
    length = np.sqrt(normal_x**2 + normal_y**2 + 1)
    facing = (
        normal_x * light.direction[0] + normal_y * light.direction[1] + light.direction[2]
    ) / length
    surface = _illuminate(placement, facing, distance / size, normal_y / length, light)
    return cv2.resize(surface, (width, height), interpolation=cv2.INTER_AREA)


def _illuminate(
    placement: Placement, facing: Array, inside: Array, downward: Array, light: Light
) -> Array:
    """Add diffuse light, light from below, edge darkening and highlights; RGB in 0..1."""
    color = np.array(COLORS[placement.color], np.float32) / 255
    diffuse = 0.52 + 0.60 * np.clip(facing, 0, 1) + 0.10 * np.clip(downward, 0, 1)
    edge = 0.80 + 0.20 * np.clip(inside / 0.035, 0, 1)
    width = facing.shape[1]
    tint = per_channel(np.array(light.tint, np.float32), width)
    surface = per_channel(color, width) * per_pixel(diffuse * edge) * tint
    # Shaded sides are bluish, as outdoors.
    shade = per_pixel(np.clip(0.45 - facing, 0, 1) * 0.35)
    blue = per_channel(np.array([0.75, 0.78, 1.1], np.float32), width)
    surface = surface * (1 - shade) + surface * blue * shade
    sharpness, strength = (26.0, 0.75) if placement.finish == "glossy" else (9.0, 0.22)
    shine = np.clip(facing, 0, 1) ** sharpness * strength * np.clip(inside / 0.03, 0, 1)
    return np.clip(surface + (1 - surface) * per_pixel(shine), 0, 1).astype(np.float32)


def _fill(points: Array, height: int, width: int) -> Array:
    """Fill a polygon in pixel-corner coordinates; returns a mask, uint8 0 or 255."""
    mask = np.zeros((int(height), int(width)), np.uint8)
    fixed = np.round((points - 0.5) * 2**_SHIFT).astype(np.int32)
    return cv2.fillPoly(mask, [fixed], 255, cv2.LINE_8, _SHIFT)


def _circle(start: float, stop: float, *, count: int = 72) -> Array:
    angles = np.linspace(start, stop, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _round_corners(corners: Array, share: float) -> Array:
    """Cut `share` of each side off the corners of a polygon, then smooth the cuts to arcs."""
    points = corners
    for cut in (share, 0.25, 0.25, 0.25):
        following = np.roll(points, -1, axis=0)
        before = points * (1 - cut) + following * cut
        after = points * cut + following * (1 - cut)
        points = np.stack([before, after], axis=1).reshape(-1, 2)
    return points


def _star() -> Array:
    radius = np.tile([1.0, 0.46], 5)[:, None]
    turned = _circle(-np.pi / 2, 1.5 * np.pi, count=10)
    return _round_corners(turned * radius, 0.10)


def _cross() -> Array:
    arm = 0.36
    corners = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)]
    corners += [(-x, -y) for x, y in corners]
    return _round_corners(np.array(corners), 0.12)


def _heart() -> Array:
    t = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    wave = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -wave], axis=1)


def _moon() -> Array:
    outer = _circle(0.25 * np.pi, 1.75 * np.pi)
    inner = _circle(1.68 * np.pi, 0.32 * np.pi) * (0.74, 0.74) + (0.42, 0)
    return np.concatenate([outer, inner])


def _drop() -> Array:
    t = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    return np.stack([np.sin(t) * np.sin(t / 2) ** 1.6 * 0.82, -np.cos(t)], axis=1)


@cache
def _unit_outline(thing: str) -> Array:
    """Return the corners of an upright shape of arbitrary size and position, (K, 2), y down."""
    square = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    shapes = {
        "ball": lambda: _circle(0, 2 * np.pi, count=96),
        "box": lambda: _round_corners(square, 0.08),
        "star": _star,
        "heart": _heart,
        "triangle": lambda: _round_corners(_circle(-np.pi / 2, 1.5 * np.pi, count=3), 0.08),
        "diamond": lambda: _round_corners(_circle(0, 2 * np.pi, count=4) * (0.66, 1.0), 0.05),
        "cross": _cross,
        "moon": _moon,
        "hexagon": lambda: _round_corners(_circle(0, 2 * np.pi, count=6), 0.07),
        "drop": _drop,
    }
    return shapes[thing]()
