"""Classes, colors and the ground truth of a toy scene."""

from typing import Any, NamedTuple

RGB = tuple[int, int, int]

THING_COLORS: dict[str, RGB] = {
    "ball": (220, 70, 80),
    "box": (190, 120, 60),
    "star": (245, 200, 70),
    "heart": (235, 95, 150),
    "triangle": (75, 175, 110),
    "diamond": (70, 200, 215),
    "cross": (150, 100, 205),
    "moon": (125, 140, 235),
    "hexagon": (240, 145, 60),
    "drop": (50, 120, 215),
}
STUFF_COLORS: dict[str, RGB] = {
    "sky": (150, 200, 240),
    "mountain": (120, 125, 150),
    "water": (50, 110, 160),
    "grass": (105, 160, 70),
    "sand": (225, 200, 145),
    "snow": (230, 238, 248),
    "wall": (205, 180, 165),
    "floor": (150, 105, 70),
    "carpet": (155, 70, 85),
}
THING_CLASSES: tuple[str, ...] = tuple(THING_COLORS)
STUFF_CLASSES: tuple[str, ...] = tuple(STUFF_COLORS)
# Objects cannot stand on these.
UPRIGHT_STUFF: frozenset[str] = frozenset({"sky", "mountain", "wall"})

COLORS: dict[str, RGB] = {
    "red": (222, 38, 42),
    "orange": (250, 118, 16),
    "yellow": (255, 230, 44),
    "green": (40, 172, 74),
    "blue": (36, 100, 232),
    "purple": (136, 58, 196),
    "pink": (250, 130, 190),
    "black": (44, 44, 52),
}


class SceneObject(NamedTuple):
    """The visible part of an object, or of a crowd.

    Attributes:
        box: (x, y, width, height) of the visible pixels.
        center: center of the box, in pixels.
        size: "large", "small", or None if ambiguous.
        place: the stuff it stands on or hangs in front of, or None if ambiguous.
    """

    id: int
    thing: str
    color: str
    box: tuple[int, int, int, int]
    center: tuple[float, float]
    area: int
    visible_share: float
    size: str | None
    place: str | None
    is_crowd: bool


class SceneRegion(NamedTuple):
    """The visible pixels of one stuff class; `position` is "top", "middle" or "bottom"."""

    stuff: str
    position: str
    box: tuple[int, int, int, int]
    center: tuple[float, float]
    area: int


class Scene(NamedTuple):
    """The ground truth of an image, from which captions are made.

    `setting` is the kind of place; `weather` is None indoors.
    """

    width: int
    height: int
    setting: str
    weather: str | None
    regions: tuple[SceneRegion, ...]
    objects: tuple[SceneObject, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values, as in `annotations/scenes_*.json`."""
        return {
            **self._asdict(),
            "regions": [region._asdict() for region in self.regions],
            "objects": [item._asdict() for item in self.objects],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Scene":
        """Make a scene from an entry of `annotations/scenes_*.json`; other keys are ignored."""
        values = {name: record[name] for name in cls._fields}
        values["regions"] = tuple(SceneRegion(**_tuples(item)) for item in record["regions"])
        values["objects"] = tuple(SceneObject(**_tuples(item)) for item in record["objects"])
        return cls(**values)


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }
