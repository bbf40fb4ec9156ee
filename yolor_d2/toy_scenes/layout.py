"""Layout of a toy scene: which objects stand where, what is visible of them, and the picture."""

from typing import NamedTuple

import numpy as np

from .backgrounds import Background, paint_background
from .measure import NOBODY, measure_object, measure_regions
from .render import (
    Patch,
    Placement,
    cast_shadow,
    paint,
    random_finish,
    random_turn,
    rasterize,
    visible_window,
)
from .truth import COLORS, THING_CLASSES, Scene, SceneObject

Array = np.ndarray

EMPTY_SHARE = 0.04
CROWD_SHARE = 0.08
MIN_VISIBLE_SHARE = 0.3
MIN_VISIBLE_PIXELS = 20


class SceneOptions(NamedTuple):
    """What the user may choose; sizes are of an object's longer side in pixels."""

    width: int = 320
    height: int = 240
    min_size: int = 12
    max_size: int = 200
    max_objects: int = 8

    @property
    def largest(self) -> float:
        """`max_size`, or less where it would fill the whole picture."""
        return min(self.max_size, 0.85 * min(self.width, self.height))


class Actor(NamedTuple):
    """One object, or one crowd of many shapes that count as one."""

    placements: tuple[Placement, ...]
    patches: tuple[Patch, ...]

    @property
    def is_crowd(self) -> bool:
        """Whether this is a crowd."""
        return len(self.placements) > 1

    @property
    def foot(self) -> float:
        """The lowest row it reaches."""
        return max(patch.top + patch.cover.shape[0] for patch in self.patches)

    def mask(self, height: int, width: int) -> Array:
        """Its pixels in the picture if nothing hid them, (H, W) bool."""
        mask = np.zeros((height, width), bool)
        for patch in self.patches:
            rows, columns, part = visible_window(patch, height, width)
            mask[rows, columns] |= patch.cover[part] >= 0.5
        return mask

    def full_area(self) -> int:
        """Pixels it would cover in a boundless picture with nothing in front."""
        left = min(patch.left for patch in self.patches)
        top = min(patch.top for patch in self.patches)
        moved = tuple(
            patch._replace(left=patch.left - left, top=patch.top - top) for patch in self.patches
        )
        height = max(patch.top + patch.cover.shape[0] for patch in moved)
        width = max(patch.left + patch.cover.shape[1] for patch in moved)
        return int(self._replace(patches=moved).mask(height, width).sum())


class RenderedScene(NamedTuple):
    """A picture and all that is true of it.

    `image` is uint8 RGB, (H, W, 3). `owners`, (H, W), tells which of `scene.objects` each pixel
    shows, NOBODY for the background; `background` indexes STUFF_CLASSES, (H, W).
    """

    image: Array
    owners: Array
    background: Array
    scene: Scene


def render_scene(rng: np.random.Generator, options: SceneOptions) -> RenderedScene:
    """Invent, paint and measure one scene."""
    background = paint_background(rng, options.height, options.width)
    actors = _invent_actors(rng, options, background)
    actors, owners = _drop_hidden(actors, options)
    objects = tuple(
        measure_object(
            index,
            owners,
            background.labels,
            thing=actor.placements[0].thing,
            color=actor.placements[0].color,
            full_area=actor.full_area(),
            is_crowd=actor.is_crowd,
        )
        for index, actor in enumerate(actors)
    )
    scene = Scene(
        width=options.width,
        height=options.height,
        setting=background.setting,
        weather=background.weather,
        regions=measure_regions(owners, background.labels),
        objects=objects,
    )
    image = _paint_all(rng, background, actors, objects)
    return RenderedScene(image=image, owners=owners, background=background.labels, scene=scene)


def _invent_actors(
    rng: np.random.Generator, options: SceneOptions, background: Background
) -> list[Actor]:
    kind = rng.random()
    if kind < EMPTY_SHARE:
        return []
    actors: list[Actor] = []
    things = list(rng.permutation(THING_CLASSES))
    wanted = min(1 + int(rng.poisson(2.4)), options.max_objects)
    if kind < EMPTY_SHARE + CROWD_SHARE:
        # The class of a crowd does not occur outside it, so that counts stay unambiguous.
        actors.append(_invent_crowd(rng, options, background, str(things.pop())))
        wanted = min(wanted, options.max_objects - 1, 4)
    boxes = [_bounds(actor) for actor in actors]
    while wanted > 0:
        thing = str(things[rng.integers(min(len(things), 4))])
        color = list(COLORS)[rng.integers(len(COLORS))]
        count = min(int(rng.choice(4, p=(0.62, 0.2, 0.12, 0.06))) + 1, wanted)
        wanted -= count
        for _ in range(count):
            placement = _find_room(rng, options, background, boxes, thing, color)
            actor = Actor(placements=(placement,), patches=(rasterize(placement),))
            actors.append(actor)
            boxes.append(_bounds(actor))
    return sorted(actors, key=lambda actor: actor.foot)


def _bounds(actor: Actor) -> tuple[float, float, float, float]:
    lows = [(patch.left, patch.top) for patch in actor.patches]
    highs = [
        (patch.left + patch.cover.shape[1], patch.top + patch.cover.shape[0])
        for patch in actor.patches
    ]
    left, top = np.min(lows, axis=0).tolist()
    right, bottom = np.max(highs, axis=0).tolist()
    return left, top, right, bottom


def _find_room(
    rng: np.random.Generator,
    options: SceneOptions,
    background: Background,
    boxes: list[tuple[float, float, float, float]],
    thing: str,
    color: str,
) -> Placement:
    """A placement with little overlap, or with as much as it takes after some trials."""
    crowding = rng.choice((0.03, 0.25, 0.6), p=(0.55, 0.3, 0.15))
    size = float(np.exp(rng.uniform(np.log(options.min_size + 1), np.log(options.largest))))
    for _ in range(15):
        center = _place(rng, options, background.ground, size)
        half = size / 2
        inside = [
            max(min(center[0] + half, right) - max(center[0] - half, left), 0)
            * max(min(center[1] + half, bottom) - max(center[1] - half, top), 0)
            / min(size**2, (right - left) * (bottom - top))
            for left, top, right, bottom in boxes
        ]
        if max(inside, default=0) <= crowding:
            break
        size = max(size * 0.93, options.min_size + 1)
    return Placement(
        thing=thing,
        color=color,
        center=center,
        size=size,
        angle=random_turn(rng, thing),
        finish=random_finish(rng, thing),
    )


def _place(
    rng: np.random.Generator, options: SceneOptions, ground: float, size: float
) -> tuple[float, float]:
    """A center: mostly standing on the ground, sometimes in the air, rarely cut by the border."""
    width, height, half = options.width, options.height, size / 2
    reach = -0.25 * size if rng.random() < 0.18 else half + 1
    x = rng.uniform(reach, width - reach)
    if rng.random() < 0.72:
        lowest = height - 2 if reach > 0 else height + 0.4 * size
        foot = rng.uniform(min(ground + 0.06 * height, lowest - 1), lowest)
        return float(x), float(foot - half)
    highest = min(half + 2, ground) if reach > 0 else 0.0
    return float(x), float(rng.uniform(highest, max(ground, highest + 1)))


def _invent_crowd(
    rng: np.random.Generator, options: SceneOptions, background: Background, thing: str
) -> Actor:
    """Many small shapes of one class and color, side by side on the ground or in the air."""
    color = list(COLORS)[rng.integers(len(COLORS))]
    finish = random_finish(rng, thing)
    size = max(options.min_size + 1.0, float(rng.uniform(0.055, 0.085)) * options.height)
    count = int(rng.integers(14, 27))
    spread_x = size * np.sqrt(count) * rng.uniform(0.55, 0.7)
    spread_y = size * np.sqrt(count) * rng.uniform(0.28, 0.38)
    middle_x, middle_y = _place(rng, options, background.ground, 2 * size)
    middle_x = float(np.clip(middle_x, 0.2 * options.width, 0.8 * options.width))
    middle_y = float(np.clip(middle_y, spread_y, options.height - spread_y))
    # Golden-angle steps fill an ellipse evenly, like the seeds of a sunflower.
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
            angle=random_turn(rng, thing),
            finish=finish,
        )
        for index in np.argsort(ys)
    )
    return Actor(placements=placements, patches=tuple(rasterize(item) for item in placements))


def _drop_hidden(actors: list[Actor], options: SceneOptions) -> tuple[list[Actor], Array]:
    """Actors that can be seen well, with the owner of each pixel; the worst hidden go first."""
    full_areas = [actor.full_area() for actor in actors]
    while True:
        owners = np.full((options.height, options.width), NOBODY, np.int16)
        for index, actor in enumerate(actors):
            owners[actor.mask(options.height, options.width)] = index
        areas = [int((owners == index).sum()) for index in range(len(actors))]
        shares = [area / full for area, full in zip(areas, full_areas, strict=True)]
        worst = min(range(len(actors)), key=shares.__getitem__, default=NOBODY)
        tiny = next((i for i, area in enumerate(areas) if area < MIN_VISIBLE_PIXELS), NOBODY)
        if worst != NOBODY and shares[worst] < MIN_VISIBLE_SHARE:
            loser = worst
        elif tiny != NOBODY:
            loser = tiny
        else:
            return actors, owners
        actors = actors[:loser] + actors[loser + 1 :]
        full_areas = full_areas[:loser] + full_areas[loser + 1 :]


def _paint_all(
    rng: np.random.Generator,
    background: Background,
    actors: list[Actor],
    objects: tuple[SceneObject, ...],
) -> Array:
    """The picture as a camera would take it, uint8 RGB."""
    image = background.image * np.array(background.light.tint, np.float32)
    for actor, item in zip(actors, objects, strict=True):
        for placement, patch in zip(actor.placements, actor.patches, strict=True):
            if item.place not in ("sky", "mountain"):
                standing = item.place != "wall"
                cast_shadow(image, placement, background.light, standing=standing)
            paint(image, placement, patch, background.light)
    height, width = image.shape[:2]
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = 1 - rng.uniform(0.02, 0.12) * (rows**2 + columns**2)
    exposure = rng.uniform(0.9, 1.06)
    noise = rng.uniform(0.004, 0.016) * rng.standard_normal(image.shape, dtype=np.float32)
    image = image * (exposure * vignette)[..., None] + noise
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
