"""COCO's category tables: 80 things, 91 stuff leaves, both as 171 leaves, 133 panoptic classes.

An id is COCO's number (1..200, with gaps); an index is the contiguous number that networks use.
"""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

IGNORE_LABEL = 255
MAX_CLASSES = 254  # of a semantic map: uint8 without 255 and a label reserved for training

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Categories:
    """An ordered table of classes; the position of a class is its index.

    Attributes:
        names: as COCO spells them.
        ids: COCO's category ids.
        colors: RGB, 0..255.
        is_thing: whether a class has instances; the others are stuff.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    colors: tuple[Color, ...]
    is_thing: tuple[bool, ...]

    @classmethod
    def from_coco(cls, entries: Iterable[Mapping[str, Any]]) -> "Categories":
        """Return the categories of a COCO file, in its order; missing colors are generated."""
        entries = list(entries)
        return cls(
            names=tuple(entry["name"] for entry in entries),
            ids=tuple(entry["id"] for entry in entries),
            colors=tuple(_as_color(e.get("color") or _spread_color(e["id"])) for e in entries),
            is_thing=tuple(bool(entry.get("isthing", True)) for entry in entries),
        )

    @classmethod
    def from_names(cls, names: Iterable[str]) -> "Categories":
        """Return classes whose ids are their indices."""
        return cls.from_coco(
            {"id": index, "name": name, "isthing": False} for index, name in enumerate(names)
        )

    def to_coco(self) -> list[dict[str, Any]]:
        """Return the categories of a COCO file."""
        rows = zip(self.ids, self.names, self.is_thing, self.colors, strict=True)
        return [
            {"id": number, "name": name, "isthing": int(thing), "color": list(color)}
            for number, name, thing, color in rows
        ]

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: "Categories") -> "Categories":
        return Categories(
            names=self.names + other.names,
            ids=self.ids + other.ids,
            colors=self.colors + other.colors,
            is_thing=self.is_thing + other.is_thing,
        )

    @cached_property
    def id_to_index(self) -> dict[int, int]:
        """Map from COCO's ids to indices."""
        return {category_id: index for index, category_id in enumerate(self.ids)}


# The ids 92..182 in order, as the stuff annotations of COCO 2017 name them. 183 is "other".
_STUFF_NAMES = """
    banner blanket branch bridge building-other bush cabinet cage cardboard carpet ceiling-other
    ceiling-tile cloth clothes clouds counter cupboard curtain desk-stuff dirt door-stuff fence
    floor-marble floor-other floor-stone floor-tile floor-wood flower fog food-other fruit
    furniture-other grass gravel ground-other hill house leaves light mat metal mirror-stuff
    moss mountain mud napkin net paper pavement pillow plant-other plastic platform playingfield
    railing railroad river road rock roof rug salad sand sea shelf sky-other skyscraper snow
    solid-other stairs stone straw structural-other table tent textile-other towel tree
    vegetable wall-brick wall-concrete wall-other wall-panel wall-stone wall-tile wall-wood
    water-other waterdrops window-blind window-other wood
""".split()  # noqa: SIM905 - the literal would be 91 lines

# How the panoptic annotations merge stuff leaves; other leaves keep their id or are dropped.
_MERGED_STUFF = {
    184: (94, 97, 129, 169),  # tree
    185: (99, 113, 146),  # fence
    186: (102, 103),  # ceiling
    187: (106, 120, 157),  # sky
    188: (98, 108),  # cabinet
    189: (110, 165),  # table
    190: (114, 115, 117),  # floor
    191: (116, 140),  # pavement
    192: (127, 135),  # mountain
    193: (124, 134, 163),  # grass
    194: (111, 136),  # dirt
    195: (137, 139),  # paper
    196: (121, 153, 170),  # food
    197: (96, 158),  # building
    198: (150, 162),  # rock
    199: (172, 173, 174),  # wall
    200: (101, 131, 152),  # rug
}


def _as_color(values: Sequence[int]) -> Color:
    red, green, blue = values
    return red, green, blue


def _stuff_leaves(panoptic: Categories) -> Categories:
    """Return the stuff leaves, with the colors of the panoptic classes where those exist."""
    known = dict(zip(panoptic.ids, panoptic.colors, strict=True))
    ids = tuple(range(92, 183))
    colors = tuple(known.get(category_id) or _spread_color(category_id) for category_id in ids)
    is_thing = (False,) * len(ids)
    return Categories(names=tuple(_STUFF_NAMES), ids=ids, colors=colors, is_thing=is_thing)


def _spread_color(number: int) -> Color:
    """Return a color whose hue differs clearly from those of adjacent numbers (golden ratio)."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.55, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def _leaf_to_panoptic(leaves: Categories, panoptic: Categories) -> tuple[int, ...]:
    merged = {leaf: target for target, group in _MERGED_STUFF.items() for leaf in group}
    return tuple(panoptic.id_to_index.get(merged.get(leaf, leaf), -1) for leaf in leaves.ids)


COCO_THINGS = Categories.from_coco(entry for entry in COCO_CATEGORIES if entry["isthing"])
COCO_PANOPTIC = Categories.from_coco(COCO_CATEGORIES)

COCO_STUFF = _stuff_leaves(COCO_PANOPTIC)
COCO_LEAVES = COCO_THINGS + COCO_STUFF

# Index in COCO_LEAVES -> index in COCO_PANOPTIC, -1 for the leaves that have no panoptic class.
LEAF_TO_PANOPTIC = _leaf_to_panoptic(COCO_LEAVES, COCO_PANOPTIC)


def coco_id_to_leaf_table() -> np.ndarray:
    """Return a lookup table from COCO ids to leaf indices.

    Returns:
        uint8 of shape (256,); IGNORE_LABEL for ids that are no leaves: 0, gaps, "other" (183).
    """
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[list(COCO_LEAVES.ids)] = np.arange(len(COCO_LEAVES))
    return table


def stuffthing_to_leaf_table() -> np.ndarray:
    """Return a lookup table from pixels of the stuffthingmaps, which are COCO ids less one.

    Returns:
        uint8 of shape (256,); IGNORE_LABEL for 255 (unlabeled) and values that are no leaves.
    """
    return np.append(coco_id_to_leaf_table()[1:], np.uint8(IGNORE_LABEL))
