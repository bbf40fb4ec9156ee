"""LabelMe: a JSON file of polygons and boxes for each image."""

import math
import re
from pathlib import Path
from typing import Any

from ...errors import LabelError
from ..catalog.entries import is_text
from ..files.contents import read_json
from .image_files import ImageFinder, list_files, part_of
from .source import Collected, LabeledObject, OwnData, corner_box, polygon_box

CIRCLE_POINTS = 32
SHAPES = re.compile(rb'"shapes"\s*:\s*\[')


def find_labels(path: Path) -> list[Path]:
    """Return the JSON files below a folder that are LabelMe's."""
    files = list_files(path, (".json",)) if path.is_dir() else []
    return files if files and SHAPES.search(files[0].read_bytes()) else []


def read(path: Path) -> OwnData:
    """Read all JSON files below a folder."""
    files = find_labels(path)
    finder = ImageFinder(path, files)
    collected = Collected(path)
    for file in files:
        content = read_json(file)
        objects = _read_objects(content, file)
        image = finder.find(file, content.get("imagePath"))
        if image is None:
            collected.missing.append(str(file))
        else:
            collected.add(part_of(file, path) or part_of(image, path), image, objects=objects)
    return collected.finish(finder.images)


def _read_objects(content: Any, file: Path) -> list[LabeledObject]:
    """Return the shapes of a file; shapes with the same label and group are one object."""
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise LabelError(f"{file}: has no list of shapes")
    objects: dict[Any, LabeledObject] = {}
    for number, shape in enumerate(shapes, start=1):
        what = f"{file}: shape {number}"
        found = _read_shape(shape, what)
        group = shape.get("group_id")
        key = number if group is None else (found.name, str(group))
        before = objects.get(key)
        if before is None:
            objects[key] = found
        elif before.polygons is None or found.polygons is None:
            raise LabelError(f"{what} is a rectangle in group {group} of {found.name}")
        else:
            polygons = before.polygons + found.polygons
            objects[key] = LabeledObject(found.name, polygon_box(polygons), polygons)
    return list(objects.values())


def _read_shape(shape: Any, what: str) -> LabeledObject:
    if not isinstance(shape, dict) or not is_text(shape.get("label")):
        raise LabelError(f"{what} has no label")
    kind = shape.get("shape_type") or "polygon"
    if not isinstance(kind, str):
        raise LabelError(f"{what} has a shape_type that is no text")
    points = _read_points(shape.get("points"), what)
    if kind == "rectangle" and len(points) in (2, 4):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return LabeledObject(shape["label"], corner_box(min(xs), min(ys), max(xs), max(ys)))
    if kind == "circle" and len(points) == 2:
        points = _circle(*points)
    elif kind != "polygon" or len(points) < 3:
        raise LabelError(f"{what} is a {kind} of {len(points)} points, not a polygon or rectangle")
    polygons = [[value for point in points for value in point]]
    return LabeledObject(shape["label"], polygon_box(polygons), polygons)


def _read_points(points: Any, what: str) -> list[tuple[float, float]]:
    try:
        found = [(float(x), float(y)) for x, y in points]
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"{what} has points that are not pairs of numbers") from None
    if not all(math.isfinite(value) for point in found for value in point):
        raise LabelError(f"{what} has a point that is not finite")
    return found


def _circle(center: tuple[float, float], edge: tuple[float, float]) -> list[tuple[float, float]]:
    radius = math.dist(center, edge)
    angles = [2 * math.pi * k / CIRCLE_POINTS for k in range(CIRCLE_POINTS)]
    return [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]
