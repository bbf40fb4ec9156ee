"""Measures the objects and regions of a toy scene.

`object_map` (H, W) has the index of the object at each pixel, or BACKGROUND. `background` (H, W)
has the index into STUFF_CLASSES at each pixel, ignoring objects.
"""

import numpy as np

from .truth import STUFF_CLASSES, UPRIGHT_STUFF, SceneObject, SceneRegion

Array = np.ndarray

BACKGROUND = -1
# Bounds of large and small extents, as shares of the image height; sizes in between are ambiguous.
LARGE, SMALL = 0.36, 0.13


def measure_object(
    index: int,
    object_map: Array,
    background: Array,
    *,
    thing: str,
    color: str,
    full_area: int,
    is_crowd: bool,
) -> SceneObject:
    """Measure object `index`, which would cover `full_area` pixels without occlusion."""
    mask = object_map == index
    box = box_of(mask)
    x, y, width, height = box
    window = (slice(y, y + height), slice(x, x + width))
    area = int(np.count_nonzero(mask[window]))
    share = area / full_area
    size = None
    if not is_crowd and share > 0.9:
        extent = max(width, height) / object_map.shape[0]
        size = "large" if extent > LARGE else "small" if extent < SMALL else None
    return SceneObject(
        id=index,
        thing=thing,
        color=color,
        box=box,
        center=(x + width / 2, y + height / 2),
        area=area,
        visible_share=round(share, 4),
        size=size,
        place=_place_of(mask[window], background[window], reaches_end=y + height >= mask.shape[0]),
        is_crowd=is_crowd,
    )


def _place_of(mask: Array, background: Array, *, reaches_end: bool) -> str | None:
    """Return the stuff an object stands on, or hangs in front of completely; None if ambiguous.

    Args:
        mask, background: in the box of the object.
        reaches_end: whether its lower end may be outside of the image.
    """
    counts = np.bincount(background[mask], minlength=len(STUFF_CLASSES))
    whole = STUFF_CLASSES[counts.argmax()]
    if whole in UPRIGHT_STUFF:
        return whole if counts.max() == counts.sum() else None
    lowest = slice(int(0.8 * mask.shape[0]), None)
    counts = np.bincount(background[lowest][mask[lowest]], minlength=len(STUFF_CLASSES))
    under = STUFF_CLASSES[counts.argmax()]
    clear = counts.max() > 0.9 * counts.sum() and not reaches_end
    return under if clear and under not in UPRIGHT_STUFF else None


def measure_regions(object_map: Array, background: Array) -> tuple[SceneRegion, ...]:
    """Measure each visible stuff class."""
    regions = []
    height = object_map.shape[0]
    visible = object_map == BACKGROUND
    for index, name in enumerate(STUFF_CLASSES):
        mask = visible & (background == index)
        counts = np.count_nonzero(mask, axis=1)
        area = int(counts.sum())
        if not area:
            continue
        box = box_of(mask)
        x, y, box_width, box_height = box
        middle = float(counts @ np.arange(height)) / area / height
        regions.append(
            SceneRegion(
                stuff=name,
                position="top" if middle < 0.37 else "bottom" if middle > 0.63 else "middle",
                box=box,
                center=(x + box_width / 2, y + box_height / 2),
                area=area,
            )
        )
    return tuple(regions)


def box_of(mask: Array) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) around the pixels of a non-empty mask."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
