"""Matching of predicted boxes with objects, and the confusion matrix of their classes."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

Json = dict[str, Any]


class Match(NamedTuple):
    """A matched object and result, or one of them without a match."""

    annotation: Json | None
    result: Json | None
    iou: float  # 0 without a match


def box_confusion(
    annotations: Sequence[Json],
    results: Sequence[Json],
    categories: Sequence[int],
    *,
    min_score: float = 0.25,
    min_iou: float = 0.5,
) -> np.ndarray:
    """Count the predicted classes of the objects of each class.

    Objects and results of any class are matched greedily, largest overlap of an image first.
    Results on crowds do not count.

    Args:
        annotations: annotations of a COCO instances file.
        results: detections in COCO's result format.
        categories: category ids in the order of the matrix.
        min_score: results with a lower score are dropped.
        min_iou: a match needs a larger intersection over union.

    Returns:
        (C + 1, C + 1), int64. Rows are objects, columns are results; the last row counts results
        without an object, the last column objects without a result.
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
        for match in match_boxes(objects[image_id], found[image_id], min_iou=min_iou):
            row, column = (
                nothing if item is None else row_of[item["category_id"]] for item in match[:2]
            )
            matrix[row, column] += 1
    return matrix


def match_boxes(
    annotations: Sequence[Json], results: Sequence[Json], *, min_iou: float
) -> list[Match]:
    """Match the objects and results of an image as in `box_confusion`, unmatched ones last."""
    objects = [a for a in annotations if not a.get("iscrowd")]
    crowds = [a for a in annotations if a.get("iscrowd")]
    ious = box_ious(results, objects, crowd=False)  # (results, objects)
    on_crowd = (box_ious(results, crowds, crowd=True) > min_iou).any(axis=1)  # (results,)
    matches: list[Match] = []
    free_results, free_objects = set(range(len(results))), set(range(len(objects)))
    for position in np.argsort(-ious, axis=None, kind="stable"):
        row, column = divmod(int(position), len(objects))
        if ious[row, column] <= min_iou:
            break
        if row in free_results and column in free_objects:
            free_results.remove(row)
            free_objects.remove(column)
            matches.append(Match(objects[column], results[row], float(ious[row, column])))
    unmatched = free_results - set(np.flatnonzero(on_crowd))
    matches += [Match(None, results[row], 0.0) for row in sorted(unmatched)]
    matches += [Match(objects[column], None, 0.0) for column in sorted(free_objects)]
    return matches


def box_ious(results: Sequence[Json], objects: Sequence[Json], *, crowd: bool) -> Any:
    """Return intersection over union of boxes; over the result's area if the objects are crowds."""
    if not results or not objects:
        return np.zeros((len(results), len(objects)))
    boxes = [np.array([item["bbox"] for item in items], float) for items in (results, objects)]
    return coco_mask.iou(*boxes, [int(crowd)] * len(objects))  # (results, objects)
