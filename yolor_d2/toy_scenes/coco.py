"""COCO's annotation formats for toy scenes: polygons, run lengths, panoptic and semantic maps."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from .layout import RenderedScene
from .measure import NOBODY, box_of
from .truth import RGB, STUFF_CLASSES, STUFF_COLORS, THING_CLASSES, THING_COLORS

Array = np.ndarray
Json = dict[str, Any]

FIRST_STUFF_ID = 101  # A gap after the things, as in COCO: ids are not indices.
INFO: Json = {"description": "yolor_d2 toy scenes", "version": "1.0", "url": "", "contributor": ""}
LICENSES: list[Json] = [
    {"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
]

_MAX_PER_IMAGE = 1000


class PanopticMap(NamedTuple):
    """`image` is the RGB picture of segment ids, (H, W, 3) uint8; `segments` its segments_info."""

    image: Array
    segments: list[Json]


def thing_categories() -> list[Json]:
    """Categories of the instances JSON: ids from 1."""
    return [
        {"id": index, "name": name, "supercategory": "shape"}
        for index, name in enumerate(THING_CLASSES, start=1)
    ]


def panoptic_categories() -> list[Json]:
    """Categories of the panoptic JSON: things, then stuff, with colors."""
    things = [
        {**category, "isthing": 1, "color": list(THING_COLORS[category["name"]])}
        for category in thing_categories()
    ]
    stuff = [
        {
            "id": index,
            "name": name,
            "supercategory": "background",
            "isthing": 0,
            "color": list(STUFF_COLORS[name]),
        }
        for index, name in enumerate(STUFF_CLASSES, start=FIRST_STUFF_ID)
    ]
    return things + stuff


def instance_annotations(rendered: RenderedScene, image_id: int) -> list[Json]:
    """One annotation an object: polygons of what is visible, run lengths for a crowd."""
    annotations = []
    for item in rendered.scene.objects:
        mask = rendered.owners == item.id
        annotations.append(
            {
                "id": image_id * _MAX_PER_IMAGE + item.id,
                "image_id": image_id,
                "category_id": THING_CLASSES.index(item.thing) + 1,
                "bbox": [float(value) for value in item.box],
                "area": item.area,
                "iscrowd": int(item.is_crowd),
                "segmentation": run_lengths(mask) if item.is_crowd else polygons_of(mask),
            }
        )
    return annotations


def semantic_map(rendered: RenderedScene) -> Array:
    """Index into THING_CLASSES + STUFF_CLASSES of each pixel, (H, W) uint8."""
    things = [THING_CLASSES.index(item.thing) for item in rendered.scene.objects]
    table = np.array([*things, 0], np.uint8)  # The last entry is NOBODY's, and overwritten.
    stuff = rendered.background + np.uint8(len(THING_CLASSES))
    return np.where(rendered.owners == NOBODY, stuff, table[rendered.owners])


def panoptic_map(rendered: RenderedScene) -> PanopticMap:
    """Segments of all objects and of all stuff; each pixel belongs to one."""
    image = np.zeros((*rendered.owners.shape, 3), np.uint8)
    segments: list[Json] = []
    used: set[RGB] = {(0, 0, 0)}  # Id 0 means "unlabeled" in COCO.
    parts = [
        (THING_CLASSES.index(item.thing) + 1, THING_COLORS[item.thing], item.is_crowd, item.id)
        for item in rendered.scene.objects
    ]
    parts += [
        (FIRST_STUFF_ID + STUFF_CLASSES.index(item.stuff), STUFF_COLORS[item.stuff], False, NOBODY)
        for item in rendered.scene.regions
    ]
    for category_id, class_color, is_crowd, owner in parts:
        mask = rendered.owners == owner
        if owner == NOBODY:
            mask &= rendered.background == category_id - FIRST_STUFF_ID
        color = _unused_color(class_color, used)
        image[mask] = color
        segments.append(
            {
                "id": color[0] + 256 * color[1] + 65536 * color[2],
                "category_id": category_id,
                "area": int(mask.sum()),
                "bbox": list(box_of(mask)),
                "iscrowd": int(is_crowd),
            }
        )
    return PanopticMap(image=image, segments=segments)


def _unused_color(color: RGB, used: set[RGB]) -> RGB:
    """The class's color or one near it, noted as used from now on."""
    red, green, blue = color
    while (red, green, blue) in used:
        red, green, blue = (red + 23) % 256, (green + 11) % 256, (blue + 37) % 256
    used.add((red, green, blue))
    return red, green, blue


def run_lengths(mask: Array) -> Json:
    """COCO's uncompressed RLE of a mask (H, W) bool: runs down the columns, zeros first."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def polygons_of(mask: Array) -> list[list[float]]:
    """Polygons [x, y, x, y, ...] along the pixel edges of a mask (H, W) bool, without holes."""
    count, components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    polygons: list[list[float]] = []
    for index in range(1, count):
        component = components == index
        doubled = np.repeat(np.repeat(component.astype(np.uint8), 2, axis=0), 2, axis=1)
        contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        holes = [
            hole for hole, (_, _, _, parent) in zip(contours, tree[0], strict=True) if parent >= 0
        ]
        if not holes:
            polygons.append(_simplify(contours[0]))
            continue
        # A polygon has no holes: cut the component through one of them and treat the halves.
        rows = holes[0][:, 0, 1]
        cut = (int(rows.min()) + int(rows.max()) + 1) // 4
        for half in (slice(None, cut), slice(cut, None)):
            part = np.zeros_like(component)
            part[half] = component[half]
            polygons += polygons_of(part)
    return polygons


def _simplify(contour: Array) -> list[float]:
    """Pixel-edge polygon of a contour of a mask at double size, with fewer corners."""
    # Each border pixel of the double-size mask touches just one corner of the true pixel grid.
    edges = (contour + 1) // 2
    simple = cv2.approxPolyDP(edges, 0.6, closed=True)
    corners = simple if len(simple) > 2 else edges
    return corners.reshape(-1).astype(float).tolist()
