"""Measuring a toy scene: what a label map says of its objects and of its background.

`owners`, (H, W), tells which object each pixel shows, NOBODY for the background; `background`,
(H, W), indexes STUFF_CLASSES and knows nothing of objects.
"""

import numpy as np

from .truth import STUFF_CLASSES, UPRIGHT_STUFF, SceneObject, SceneRegion

Array = np.ndarray

NOBODY = -1
# The extent of what is called so, as a share of the picture's height; between them nothing is said.
LARGE, SMALL = 0.36, 0.13


def measure_object(
    index: int,
    owners: Array,
    background: Array,
    *,
    thing: str,
    color: str,
    full_area: int,
    is_crowd: bool,
) -> SceneObject:
    """The truth of object `index`, which would cover `full_area` pixels if nothing hid it."""
    mask = owners == index
    box = box_of(mask)
    x, y, width, height = box
    area = int(mask.sum())
    share = area / full_area
    size = None
    if not is_crowd and share > 0.9:
        extent = max(width, height) / owners.shape[0]
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
        place=_place_of(mask, box, background),
        is_crowd=is_crowd,
    )


def _place_of(mask: Array, box: tuple[int, int, int, int], background: Array) -> str | None:
    """What an object stands on, or hangs in front of with all of itself."""
    counts = np.bincount(background[mask], minlength=len(STUFF_CLASSES))
    whole = STUFF_CLASSES[counts.argmax()]
    if whole in UPRIGHT_STUFF:
        return whole if counts.max() == counts.sum() else None
    _, y, _, height = box
    feet = mask.copy()
    feet[: y + int(0.8 * height)] = False
    counts = np.bincount(background[feet], minlength=len(STUFF_CLASSES))
    under = STUFF_CLASSES[counts.argmax()]
    cut = y + height >= mask.shape[0]  # Its foot is out of the picture.
    clear = counts.max() > 0.9 * counts.sum() and not cut
    return under if clear and under not in UPRIGHT_STUFF else None


def measure_regions(owners: Array, background: Array) -> tuple[SceneRegion, ...]:
    """The truth of each stuff class that can be seen."""
    regions = []
    height = owners.shape[0]
    for index, name in enumerate(STUFF_CLASSES):
        mask = (background == index) & (owners == NOBODY)
        if not mask.any():
            continue
        box = box_of(mask)
        x, y, box_width, box_height = box
        middle = float(np.nonzero(mask)[0].mean()) / height
        regions.append(
            SceneRegion(
                stuff=name,
                position="top" if middle < 0.37 else "bottom" if middle > 0.63 else "middle",
                box=box,
                center=(x + box_width / 2, y + box_height / 2),
                area=int(mask.sum()),
            )
        )
    return tuple(regions)


def box_of(mask: Array) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the pixels of a mask that has some."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
