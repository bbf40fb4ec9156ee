"""Which classes of boxes are taken for which."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

Json = dict[str, Any]


class Match(NamedTuple):
    """An object and a result that belong together, or one of them that is alone."""

    annotation: Json | None
    result: Json | None
    overlap: float  # 0 of one that is alone


def box_confusion(
    annotations: Sequence[Json],
    results: Sequence[Json],
    categories: Sequence[int],
    *,
    min_score: float = 0.25,
    min_overlap: float = 0.5,
) -> np.ndarray:
    """Count what the objects of each class were taken for.

    An object and a result belong together when they overlap enough, whatever their classes; where
    there is a choice, the largest overlap of an image goes first. Results on crowds do not count.

    Args:
        annotations: of COCO's instances.
        results: in COCO's result format.
        categories: the ids in the order of the matrix.
        min_score: results below are left out.
        min_overlap: the smallest intersection over union of a pair.

    Returns:
        (C + 1, C + 1), int64. Rows are objects, columns are results; the last row is of results
        without an object, the last column of objects without a result.
    """
    nothing = len(categories)
    row_of = {category: number for number, category in enumerate(categories)}
    objects, found = defaultdict(list), defaultdict(list)
    for annotation in annotations:
        objects[annotation["image_id"]].append(annotation)
    for result in results:
        if result["score"] >= min_score:
            found[result["image_id"]].append(result)
    matrix = np.zeros((nothing + 1, nothing + 1), np.int64)
    for image_id in objects.keys() | found.keys():
        for match in match_boxes(objects[image_id], found[image_id], min_overlap=min_overlap):
            row, column = (
                nothing if item is None else row_of[item["category_id"]] for item in match[:2]
            )
            matrix[row, column] += 1
    return matrix


def match_boxes(
    annotations: Sequence[Json], results: Sequence[Json], *, min_overlap: float
) -> list[Match]:
    """The objects and results of an image, paired or alone, as `box_confusion` says."""
    objects = [a for a in annotations if not a.get("iscrowd")]
    crowds = [a for a in annotations if a.get("iscrowd")]
    overlaps = box_overlaps(results, objects, crowd=False)  # (results, objects)
    on_crowd = (box_overlaps(results, crowds, crowd=True) > min_overlap).any(axis=1)  # (results,)
    matches: list[Match] = []
    free_results, free_objects = set(range(len(results))), set(range(len(objects)))
    for position in np.argsort(-overlaps, axis=None, kind="stable"):
        result, item = divmod(int(position), len(objects))
        if overlaps[result, item] <= min_overlap:
            break
        if result in free_results and item in free_objects:
            free_results.remove(result)
            free_objects.remove(item)
            overlap = float(overlaps[result, item])
            matches.append(Match(objects[item], results[result], overlap))
    alone = free_results - set(np.flatnonzero(on_crowd))
    matches += [Match(None, results[result], 0.0) for result in sorted(alone)]
    matches += [Match(objects[item], None, 0.0) for item in sorted(free_objects)]
    return matches


def box_overlaps(results: Sequence[Json], objects: Sequence[Json], *, crowd: bool) -> Any:
    """Intersection over union of boxes, over the result alone where the objects are crowds."""
    if not results or not objects:
        return np.zeros((len(results), len(objects)))
    boxes = [np.array([item["bbox"] for item in items], float) for items in (results, objects)]
    return coco_mask.iou(*boxes, [int(crowd)] * len(objects))  # (results, objects)
