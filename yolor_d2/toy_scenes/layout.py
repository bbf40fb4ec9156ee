"""Lays out and renders a toy scene."""

from typing import NamedTuple

import numpy as np

from .backgrounds import Background, paint_background
from .measure import BACKGROUND, measure_object, measure_regions
from .pixels import Array, per_channel, per_pixel
from .render import (
    Patch,
    Placement,
    cast_shadow,
    paint,
    random_angle,
    random_finish,
    rasterize,
    visible_window,
)
from .truth import COLORS, THING_CLASSES, Scene, SceneObject

EMPTY_SHARE = 0.04
CROWD_SHARE = 0.08
MIN_VISIBLE_SHARE = 0.3
MIN_VISIBLE_PIXELS = 20


class SceneOptions(NamedTuple):
    """Options of the generator; sizes are those of an object's longer side in pixels."""

    width: int = 320
    height: int = 240
    min_size: int = 12
    max_size: int = 200
    max_objects: int = 8

    @property
    def largest(self) -> float:
        """`max_size`, limited to 85 % of the image's shorter side."""
        return min(self.max_size, 0.85 * min(self.width, self.height))


class PlacedObject(NamedTuple):
    """An object, or a crowd of many shapes that count as one object."""

    placements: tuple[Placement, ...]
    patches: tuple[Patch, ...]

    @property
    def is_crowd(self) -> bool:
        """Whether this is a crowd."""
        return len(self.placements) > 1

    @property
    def bottom(self) -> float:
        """The row below its lowest pixel."""
        return max(patch.top + patch.cover.shape[0] for patch in self.patches)

    def draw(self, labels: Array, value: int) -> None:
        """Set its pixels in a map (H, W) to a value, without occlusion."""
        for patch in self.patches:
            rows, columns, part = visible_window(patch, *labels.shape)
            labels[rows, columns][patch.cover[part] >= 0.5] = value

    def full_area(self) -> int:
        """Return the number of its pixels without occlusion and image borders."""
        left = min(patch.left for patch in self.patches)
        top = min(patch.top for patch in self.patches)
        moved = tuple(
            patch._replace(left=patch.left - left, top=patch.top - top) for patch in self.patches
        )
        height = max(patch.top + patch.cover.shape[0] for patch in moved)
        width = max(patch.left + patch.cover.shape[1] for patch in moved)
        mask = np.zeros((height, width), bool)
        self._replace(patches=moved).draw(mask, True)
        return int(np.count_nonzero(mask))


class RenderedScene(NamedTuple):
    """An image and its ground truth.

    Attributes:
        image: uint8 RGB, (H, W, 3).
        object_map: (H, W) index into `scene.objects` of each pixel, or BACKGROUND.
        background: (H, W) index into STUFF_CLASSES of each pixel, ignoring objects.
        scene: the facts about the image.
    """

    image: Array
    object_map: Array
    background: Array
    scene: Scene


def render_scene(rng: np.random.Generator, options: SceneOptions) -> RenderedScene:
    """Lay out, paint and measure a scene."""
    background = paint_background(rng, options.height, options.width)
    placed_objects = _place_objects(rng, options, background)
    placed_objects, object_map = _drop_hidden(placed_objects, options)
    objects = tuple(
        measure_object(
            index,
            object_map,
            background.labels,
            thing=placed.placements[0].thing,
            color=placed.placements[0].color,
            full_area=placed.full_area(),
            is_crowd=placed.is_crowd,
        )
        for index, placed in enumerate(placed_objects)
    )
    scene = Scene(
        width=options.width,
        height=options.height,
        setting=background.setting,
        weather=background.weather,
        regions=measure_regions(object_map, background.labels),
        objects=objects,
    )
    image = _paint_all(rng, background, placed_objects, objects)
    return RenderedScene(
        image=image, object_map=object_map, background=background.labels, scene=scene
    )


def _place_objects(
    rng: np.random.Generator, options: SceneOptions, background: Background
) -> list[PlacedObject]:
    draw = rng.random()
    if draw < EMPTY_SHARE:
        return []
    placed_objects: list[PlacedObject] = []
    things = list(rng.permutation(THING_CLASSES))
    wanted = min(1 + int(rng.poisson(2.4)), options.max_objects)
    if draw < EMPTY_SHARE + CROWD_SHARE:
        # No other object has the class of a crowd, so that counts are unambiguous.
        placed_objects.append(_place_crowd(rng, options, background, str(things.pop())))
        wanted = min(wanted, options.max_objects - 1, 4)
    boxes = [_bounds(placed) for placed in placed_objects]
    while wanted > 0:
        thing = str(things[rng.integers(min(len(things), 4))])
        color = list(COLORS)[rng.integers(len(COLORS))]
        count = min(int(rng.choice(4, p=(0.62, 0.2, 0.12, 0.06))) + 1, wanted)
        wanted -= count
        for _ in range(count):
            placement = _place_object(rng, options, background, boxes, thing, color)
            placed = PlacedObject(placements=(placement,), patches=(rasterize(placement),))
            placed_objects.append(placed)
            boxes.append(_bounds(placed))
    return sorted(placed_objects, key=lambda placed: placed.bottom)


def _bounds(placed: PlacedObject) -> tuple[float, float, float, float]:
    lows = [(patch.left, patch.top) for patch in placed.patches]
    highs = [
        (patch.left + patch.cover.shape[1], patch.top + patch.cover.shape[0])
        for patch in placed.patches
    ]
    left, top = np.min(lows, axis=0).tolist()
    right, bottom = np.max(highs, axis=0).tolist()
    return left, top, right, bottom


def _place_object(
    rng: np.random.Generator,
    options: SceneOptions,
    background: Background,
    boxes: list[tuple[float, float, float, float]],
    thing: str,
    color: str,
) -> Placement:
    """Draw a placement with little overlap; after 15 trials any overlap is accepted."""
    max_overlap = rng.choice((0.03, 0.25, 0.6), p=(0.55, 0.3, 0.15))
    size = float(np.exp(rng.uniform(np.log(options.min_size + 1), np.log(options.largest))))
    for _ in range(15):
        center = _random_center(rng, options, background.ground, size)
        half = size / 2
        overlaps = [
            max(min(center[0] + half, right) - max(center[0] - half, left), 0)
            * max(min(center[1] + half, bottom) - max(center[1] - half, top), 0)
            / min(size**2, (right - left) * (bottom - top))
            for left, top, right, bottom in boxes
        ]
        if max(overlaps, default=0) <= max_overlap:
            break
        size = max(size * 0.93, options.min_size + 1)
    return Placement(
        thing=thing,
        color=color,
        center=center,
        size=size,
        angle=random_angle(rng, thing),
        finish=random_finish(rng, thing),
    )


def _random_center(
    rng: np.random.Generator, options: SceneOptions, ground: float, size: float
) -> tuple[float, float]:
    """Draw a center: mostly on the ground, sometimes in the air, rarely cut by the border."""
    width, height, half = options.width, options.height, size / 2
    reach = -0.25 * size if rng.random() < 0.18 else half + 1
    x = rng.uniform(reach, width - reach)
    if rng.random() < 0.72:
        lowest = height - 2 if reach > 0 else height + 0.4 * size
        bottom = rng.uniform(min(ground + 0.06 * height, lowest - 1), lowest)
        return float(x), float(bottom - half)
    highest = min(half + 2, ground) if reach > 0 else 0.0
    return float(x), float(rng.uniform(highest, max(ground, highest + 1)))


def _place_crowd(
    rng: np.random.Generator, options: SceneOptions, background: Background, thing: str
) -> PlacedObject:
    """Place many small shapes of one class and color close together."""
    color = list(COLORS)[rng.integers(len(COLORS))]
    finish = random_finish(rng, thing)
    size = max(options.min_size + 1.0, float(rng.uniform(0.055, 0.085)) * options.height)
    count = int(rng.integers(14, 27))
    spread_x = size * np.sqrt(count) * rng.uniform(0.55, 0.7)
    spread_y = size * np.sqrt(count) * rng.uniform(0.28, 0.38)
    middle_x, middle_y = _random_center(rng, options, background.ground, 2 * size)
    middle_x = float(np.clip(middle_x, 0.2 * options.width, 0.8 * options.width))
    middle_y = float(np.clip(middle_y, spread_y, options.height - spread_y))
    # Steps of the golden angle fill an ellipse evenly.
    steps = np.arange(count) + 0.5
    angle = steps * 2.399963 + rng.uniform(0, 2 * np.pi)
    radius = np.sqrt(steps / count)
    xs = middle_x + spread_x * radius * np.cos(angle) + rng.normal(0, 0.16 * size, count)
    ys = middle_y + spread_y * radius * np.sin(angle) + rng.normal(0, 0.12 * size, count)
    placements = tuple(
        Placement(
            thing=thing,
            color=color,
            center=(float(xs[index]), float(ys[index])),
            size=size * float(rng.uniform(0.95, 1.15)),
            angle=random_angle(rng, thing),
            finish=finish,
        )
        for index in np.argsort(ys)
    )
    return PlacedObject(
        placements=placements, patches=tuple(rasterize(item) for item in placements)
    )


def _drop_hidden(
    placed_objects: list[PlacedObject], options: SceneOptions
) -> tuple[list[PlacedObject], Array]:
    """Remove objects that are mostly hidden or tiny; return the others and the object map."""
    full_areas = [placed.full_area() for placed in placed_objects]
    while True:
        object_map = np.full((options.height, options.width), BACKGROUND, np.int16)
        for index, placed in enumerate(placed_objects):
            placed.draw(object_map, index)
        areas = [np.count_nonzero(object_map == index) for index in range(len(placed_objects))]
        shares = [area / full for area, full in zip(areas, full_areas, strict=True)]
        worst = min(range(len(placed_objects)), key=shares.__getitem__, default=None)
        tiny = next((i for i, area in enumerate(areas) if area < MIN_VISIBLE_PIXELS), None)
        if worst is not None and shares[worst] < MIN_VISIBLE_SHARE:
            removed = worst
        elif tiny is not None:
            removed = tiny
        else:
            return placed_objects, object_map
        placed_objects = placed_objects[:removed] + placed_objects[removed + 1 :]
        full_areas = full_areas[:removed] + full_areas[removed + 1 :]


def _paint_all(
    rng: np.random.Generator,
    background: Background,
    placed_objects: list[PlacedObject],
    objects: tuple[SceneObject, ...],
) -> Array:
    """Paint the objects, and add vignetting, exposure and noise; returns uint8 RGB."""
    height, width = background.labels.shape
    tint = per_channel(np.array(background.light.tint, np.float32), width)
    image = background.image * tint
    for placed, item in zip(placed_objects, objects, strict=True):
        for placement, patch in zip(placed.placements, placed.patches, strict=True):
            if item.place not in ("sky", "mountain"):
                standing = item.place != "wall"
                cast_shadow(image, placement, background.light, standing=standing)
            paint(image, placement, patch, background.light)
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = 1 - rng.uniform(0.02, 0.12) * (rows**2 + columns**2)
    exposure = rng.uniform(0.9, 1.06)
    strength = rng.uniform(0.004, 0.016)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= strength
    image = image * per_pixel(exposure * vignette)
    image += noise
    np.clip(image, 0, 1, out=image)
    image *= 255
    image += 0.5
    return image.astype(np.uint8)
