"""Toy scenes in COCO's formats: polygons, run lengths, panoptic and semantic maps."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from .layout import RenderedScene
from .measure import BACKGROUND
from .truth import (
    RGB,
    STUFF_CLASSES,
    STUFF_COLORS,
    THING_CLASSES,
    THING_COLORS,
    SceneObject,
    SceneRegion,
)

Array = np.ndarray
Json = dict[str, Any]

FIRST_STUFF_ID = 101  # A gap after the things, as in COCO, so that ids differ from indices.
INFO: Json = {"description": "yolor_d2 toy scenes", "version": "1.0", "url": "", "contributor": ""}
LICENSES: list[Json] = [
    {"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
]

_MAX_PER_IMAGE = 1000


class PanopticMap(NamedTuple):
    """`image` has the segment ids as RGB, uint8 (H, W, 3); `segments` is the segments_info."""

    image: Array
    segments: list[Json]


def thing_categories() -> list[Json]:
    """Return the categories of the instances JSON; ids start at 1."""
    return [
        {"id": index, "name": name, "supercategory": "shape"}
        for index, name in enumerate(THING_CLASSES, start=1)
    ]


def panoptic_categories() -> list[Json]:
    """Return the categories of the panoptic JSON: things, then stuff, with colors."""
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
    """Make the annotations: polygons of visible parts, and run lengths of crowds."""
    annotations = []
    for item in rendered.scene.objects:
        if item.is_crowd:
            segmentation: Any = run_lengths(rendered.object_map == item.id)
        else:
            x, y, width, height = item.box
            # OpenCV finds components in blocks of 2 x 2 pixels, which must be those of the image.
            left, top = x - x % 2, y - y % 2
            part = rendered.object_map[top : y + height, left : x + width]
            segmentation = polygons_of(part == item.id, (left, top))
        annotations.append(
            {
                "id": image_id * _MAX_PER_IMAGE + item.id,
                "image_id": image_id,
                "category_id": THING_CLASSES.index(item.thing) + 1,
                "bbox": [float(value) for value in item.box],
                "area": item.area,
                "iscrowd": int(item.is_crowd),
                "segmentation": segmentation,
            }
        )
    return annotations


def semantic_map(rendered: RenderedScene) -> Array:
    """Return the index into THING_CLASSES + STUFF_CLASSES of each pixel, uint8 (H, W)."""
    things = [THING_CLASSES.index(item.thing) for item in rendered.scene.objects]
    table = np.array([*things, 0], np.uint8)  # BACKGROUND indexes the last entry, an unused 0.
    stuff = rendered.background + np.uint8(len(THING_CLASSES))
    return np.where(rendered.object_map == BACKGROUND, stuff, table[rendered.object_map])


def panoptic_map(rendered: RenderedScene) -> PanopticMap:
    """Make the segments of all objects and stuff, which partition the image."""
    planes = np.zeros((3, *rendered.object_map.shape), np.uint8)
    segments: list[Json] = []
    used: set[RGB] = {(0, 0, 0)}  # Id 0 means "unlabeled" in COCO.
    parts: tuple[SceneObject | SceneRegion, ...]
    parts = (*rendered.scene.objects, *rendered.scene.regions)
    for item in parts:
        x, y, width, height = item.box
        window = (slice(y, y + height), slice(x, x + width))
        if isinstance(item, SceneObject):
            category_id = THING_CLASSES.index(item.thing) + 1
            color = _unused_color(THING_COLORS[item.thing], used)
            mask = rendered.object_map[window] == item.id
        else:
            stuff = STUFF_CLASSES.index(item.stuff)
            category_id = FIRST_STUFF_ID + stuff
            color = _unused_color(STUFF_COLORS[item.stuff], used)
            mask = rendered.object_map[window] == BACKGROUND
            mask &= rendered.background[window] == stuff
        for plane, value in zip(planes, color, strict=True):
            plane[window][mask] = value
        segments.append(
            {
                "id": color[0] + 256 * color[1] + 65536 * color[2],
                "category_id": category_id,
                "area": item.area,
                "bbox": list(item.box),
                "iscrowd": int(isinstance(item, SceneObject) and item.is_crowd),
            }
        )
    return PanopticMap(image=cv2.merge([*planes]), segments=segments)


def _unused_color(color: RGB, used: set[RGB]) -> RGB:
    """Return the color, or a near one if it is used, and mark it as used."""
    red, green, blue = color
    while (red, green, blue) in used:
        red, green, blue = (red + 23) % 256, (green + 11) % 256, (blue + 37) % 256
    used.add((red, green, blue))
    return red, green, blue


def run_lengths(mask: Array) -> Json:
    """Encode a mask (H, W) bool as COCO's uncompressed RLE: runs down the columns, zeros first."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def polygons_of(mask: Array, origin: tuple[int, int] = (0, 0)) -> list[list[float]]:
    """Convert a mask (H, W) bool to polygons [x, y, x, y, ...] along its pixel edges.

    Args:
        mask: a part of an image.
        origin: position (x, y) of its first pixel in the image.
    """
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
            polygons.append(_simplify(contours[0], origin))
            continue
        # A polygon has no holes: cut the component through a hole and convert the halves.
        rows = holes[0][:, 0, 1]
        cut = (int(rows.min()) + int(rows.max()) + 1) // 4
        for half in (slice(None, cut), slice(cut, None)):
            part = np.zeros_like(component)
            part[half] = component[half]
            polygons += polygons_of(part, origin)
    return polygons


def _simplify(contour: Array, origin: tuple[int, int]) -> list[float]:
    """Convert a contour of a mask at double size to a simplified polygon along pixel edges."""
    # Each border pixel of the double-size mask touches exactly one corner of the original grid.
    edges = (contour + 1) // 2 + np.array(origin, contour.dtype)
    simple = cv2.approxPolyDP(edges, 0.6, closed=True)
    corners = simple if len(simple) > 2 else edges
    return corners.reshape(-1).astype(float).tolist()
