"""Checks of an object: its box, its polygons, its RLE mask."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ..files.rle import run_lengths

Finding = tuple[str, str]  # a kind of problem, and its details

# Boxes and polygons may exceed the image by this much: annotation tools and conversions round to
# whole pixels, up or down.
PIXEL_TOLERANCE = 1.0
# The edges of a box may differ from those of its segmentation by this many pixels, or by this share
# of its longer side. COCO's boxes around crowds are a pixel smaller than the masks.
BOX_TOLERANCE_PIXELS = 2.0
BOX_TOLERANCE_SHARE = 0.05
# The computed area of collinear points is a rounding error.
ZERO_AREA = 1e-6


def object_findings(annotation: dict[str, Any], *, width: int, height: int) -> list[Finding]:
    """Check an annotation in detectron2's format, of an image of this size."""
    findings = list(_box_findings(annotation, width, height))
    segmentation = annotation.get("segmentation")
    if segmentation is None:
        return findings
    try:
        findings.extend(_segmentation_findings(segmentation, width, height))
    except (KeyError, TypeError, ValueError) as error:
        findings.append(("bad segmentation", f"{type(error).__name__}: {error}"))
    if not findings:
        findings.extend(_disagreement(_box(annotation), segmentation, width, height))
    return findings


def ring_fault(ring: Any) -> Finding | None:
    """Check the length of a polygon; None if it is valid."""
    if not isinstance(ring, list | tuple | np.ndarray):
        return "bad polygon", f"{ring!r} is not a list of coordinates"
    if len(ring) >= 6 and len(ring) % 2 == 0:
        return None
    return "bad polygon", f"has {len(ring)} numbers, not x and y of 3 points or more"


def _box(annotation: dict[str, Any]) -> np.ndarray:
    """Return x0, y0, x1, y1 in float64."""
    box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return np.array(box, dtype=np.float64)


def _box_findings(annotation: dict[str, Any], width: int, height: int) -> Iterator[Finding]:
    try:
        box = _box(annotation)
    except (AssertionError, RuntimeError, TypeError, ValueError):
        box = np.full(4, np.nan)
    if not np.isfinite(box).all():
        yield "bad box", f"{annotation['bbox']} is not four finite numbers"
        return
    if (box[2:] <= box[:2]).any():
        yield "box without size", f"{annotation['bbox']}"
    if (overhang := _overhang(box, width, height)) > PIXEL_TOLERANCE:
        yield "box outside image", f"{annotation['bbox']} by {overhang:.1f} px"


def _overhang(extent: np.ndarray, width: int, height: int) -> float:
    """Return by how many pixels x0, y0, x1, y1 exceed the image; negative inside."""
    return max(*-extent[:2], *(extent[2:] - (width, height)))


def _segmentation_findings(segmentation: Any, width: int, height: int) -> Iterator[Finding]:
    if isinstance(segmentation, list):
        yield from _polygon_findings(segmentation, width, height)
    elif isinstance(segmentation, dict):
        yield from _rle_findings(segmentation, width, height)
    else:
        yield "bad segmentation", f"is a {type(segmentation).__name__}"


def _polygon_findings(rings: list[Any], width: int, height: int) -> Iterator[Finding]:
    if not rings:
        yield "no polygon", "the segmentation is an empty list"
    for number, ring in enumerate(rings):
        if fault := ring_fault(ring):
            yield fault
            continue
        points = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(points).all():
            yield "bad polygon", f"polygon {number} has non-finite numbers"
            continue
        overhang = _overhang(_extent([points]), width, height)
        if overhang > PIXEL_TOLERANCE:
            yield "polygon outside image", f"polygon {number} by {overhang:.1f} px"
        x, y = (points - points[0]).T
        if abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 < ZERO_AREA:
            yield "polygon without area", f"polygon {number}, {len(points)} points"


def _extent(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Return x0, y0, x1, y1 around rings of shape (points, 2)."""
    points = np.concatenate(rings)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _rle_findings(rle: dict[str, Any], width: int, height: int) -> Iterator[Finding]:
    if list(rle["size"]) != [height, width]:
        yield "RLE of another size", f"{list(rle['size'])} in an image of {[height, width]}"
        return
    runs = run_lengths(rle["counts"])
    # pycocotools silently leaves pixels uninitialized that the runs do not cover.
    if runs is None or min(runs, default=0) < 0 or sum(runs) != width * height:
        covered = "cannot be decoded" if runs is None else f"its runs cover {sum(runs)} pixels"
        yield "bad RLE", f"{covered}, the image has {width * height}"
    elif not sum(runs[1::2]):
        yield "empty mask", "the RLE has no pixel"


def _disagreement(box: np.ndarray, segmentation: Any, width: int, height: int) -> Iterator[Finding]:
    """Check that a valid box encloses a valid segmentation."""
    if isinstance(segmentation, list):
        extent = _extent([np.asarray(r, dtype=np.float64).reshape(-1, 2) for r in segmentation])
    else:
        if isinstance(segmentation["counts"], list):
            segmentation = mask_util.frPyObjects(segmentation, height, width)
        extent = mask_util.toBbox(segmentation)
        extent[2:] += extent[:2]
    difference = np.abs(box - extent).max()
    longer_side = (box[2:] - box[:2]).max()
    if difference > max(BOX_TOLERANCE_PIXELS, BOX_TOLERANCE_SHARE * longer_side):
        box_text, extent_text = box.round(1).tolist(), extent.round(1).tolist()
        yield "box unlike its segmentation", f"box {box_text}, segmentation {extent_text} (x y x y)"
