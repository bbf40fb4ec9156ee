"""COCO's average precision and recall, computed by faster-coco-eval.

Without faster-coco-eval, pycocotools computes the same numbers, only slower.
"""

import contextlib
import functools
import gc
import io
import logging
import multiprocessing
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from ..gathering import image_id_key
from ..missing import NOT_ANNOTATED, Missing

try:
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster as COCOeval

    IMPORT_ERROR = ""
except ImportError as error:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    IMPORT_ERROR = str(error)

logger = logging.getLogger(__name__)

Json = dict[str, Any]

AREAS = {"": 0, "s": 1, "m": 2, "l": 3}  # all, small (< 32 x 32), medium, large (> 96 x 96)
MAX_DETECTIONS = (1, 10, 100)  # per image and class


class Scores(NamedTuple):
    """Scores over 10 IoU thresholds, 101 recall steps, C categories, AREAS, MAX_DETECTIONS.

    -1 where the ground truth has no object.
    """

    precision: np.ndarray  # (10, 101, C, 4, 3)
    recall: np.ndarray  # (10, C, 4, 3)

    def headline(self) -> dict[str, float]:
        """Return COCO's twelve metrics in percent; NaN if the ground truth has no such object."""
        best = self.precision[..., -1]  # (10, 101, C, 4)
        numbers = {"AP": best[..., 0], "AP50": best[0, ..., 0], "AP75": best[5, ..., 0]}
        numbers |= {f"AP{name}": best[..., area] for name, area in AREAS.items()}
        numbers |= {
            f"AR@{limit}": self.recall[..., 0, index] for index, limit in enumerate(MAX_DETECTIONS)
        }
        numbers |= {f"AR{name}@100": self.recall[..., area, -1] for name, area in AREAS.items()}
        return {name: _mean(values) for name, values in numbers.items()}

    def average_precision(self) -> list[float]:
        """Return the AP of each category in percent."""
        return [_mean(values) for values in np.moveaxis(self.precision[..., 0, -1], 2, 0)]


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(100 * known.mean()) if known.size else Missing(NOT_ANNOTATED)


def score(
    dataset: Mapping[str, Any],
    results: Sequence[Json],
    iou_type: str,
    *,
    processes: int = 1,
) -> Scores:
    """Score detections.

    Args:
        dataset: content of a COCO instances file. For masks, objects without a mask are ignored
            like crowds: neither found nor missed.
        results: detections in COCO's result format. Those of unlisted images do not count.
        iou_type: "bbox" or "segm".
        processes: number of processes among which the categories are split.

    Returns:
        Scores of the file's categories in the order of their ids.
    """
    if IMPORT_ERROR:
        _warn_about_speed()
    groups = _split_by_category(dataset, results, iou_type, processes)
    if len(groups) == 1:
        return groups[0].score()
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    with ProcessPoolExecutor(
        len(groups) - 1,
        # A forked process inherits the data without copying or pickling it.
        mp_context=multiprocessing.get_context("fork" if can_fork else None),
        initializer=_init_worker,
        initargs=(groups,),
    ) as pool:
        others = pool.map(_score_group, range(1, len(groups)))
        parts = [groups[0].score(), *others]  # this process scores the first group
    order = np.argsort([category for group in groups for category in group.categories])
    return Scores(
        np.concatenate([part.precision for part in parts], axis=2)[:, :, order],
        np.concatenate([part.recall for part in parts], axis=1)[:, order],
    )


@functools.cache  # logged once
def _warn_about_speed() -> None:
    logger.warning(
        "faster-coco-eval cannot be imported (%s): pycocotools scores boxes and masks, several "
        "times slower",
        IMPORT_ERROR,
    )


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, which is slow among millions of live objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _CategoryGroup(NamedTuple):
    """Some of the categories with their objects and results."""

    iou_type: str
    categories: list[int]  # sorted
    images: Sequence[Json]
    annotations: list[Json]
    results: list[Json]

    @_without_garbage_collection()
    def score(self) -> Scores:
        # The libraries need integer ids; their order breaks ties between equal scores.
        listed = sorted(self.images, key=lambda image: image_id_key(image["id"]))
        by_id = {image["id"]: {**image, "id": number} for number, image in enumerate(listed)}
        images = list(by_id.values())
        truth = _ground_truth(self.annotations, by_id, self.iou_type)
        detections = _detections(self.results, by_id, self.iou_type)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(
                self._index(images, truth), self._index(images, detections), self.iou_type
            )
            evaluation.rle_iou_max_workers = 1  # more threads only wait for each other
            evaluation.evaluate()
            evaluation.accumulate()
        return Scores(*(np.asarray(evaluation.eval[name]) for name in Scores._fields))

    def _index(self, images: list[Json], annotations: list[Json]) -> COCO:
        index = COCO()
        index.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": category} for category in self.categories],
        }
        index.createIndex()
        return index


_groups: Sequence[_CategoryGroup]  # set in worker processes


def _init_worker(groups: Sequence[_CategoryGroup]) -> None:
    global _groups
    _groups = groups


def _score_group(number: int) -> Scores:
    return _groups[number].score()


def _split_by_category(
    dataset: Mapping[str, Any], results: Sequence[Json], iou_type: str, processes: int
) -> list[_CategoryGroup]:
    """Split the categories into groups with similar numbers of objects and results."""
    objects = _by_category(dataset.get("annotations", []))
    detections = _by_category(results)
    categories = [category["id"] for category in dataset["categories"]]
    sizes = {i: len(objects[i]) + len(detections[i]) for i in categories}
    groups: list[list[int]] = [[] for _ in range(max(min(processes, len(categories)), 1))]
    for category in sorted(categories, key=lambda category: -sizes[category]):
        min(groups, key=lambda group: (sum(sizes[c] for c in group), len(group))).append(category)
    return [
        _CategoryGroup(
            iou_type,
            sorted(group),
            dataset["images"],
            annotations=[item for category in group for item in objects[category]],
            results=[item for category in group for item in detections[category]],
        )
        for group in groups
    ]


def _by_category(items: Sequence[Json]) -> dict[int, list[Json]]:
    groups: dict[int, list[Json]] = defaultdict(list)
    for item in items:
        groups[item["category_id"]].append(item)
    return groups


def _ground_truth(
    annotations: Sequence[Json], images: Mapping[Any, Json], iou_type: str
) -> list[Json]:
    """Copy the annotations of listed images in the form that the libraries need.

    A copy, because the libraries modify it.
    """
    objects = []
    for number, annotation in enumerate(annotations, start=1):  # id 0 means "no match" to them
        image = images.get(annotation["image_id"])
        if image is None:
            continue
        x, y, width, height = annotation["bbox"]
        item = {
            "id": number,
            "image_id": image["id"],
            "category_id": annotation["category_id"],
            "bbox": annotation["bbox"],
            "area": annotation.get("area", width * height),
            "iscrowd": annotation.get("iscrowd", 0),
        }
        if iou_type == "segm":
            item["segmentation"] = annotation.get("segmentation")
            if not item["segmentation"]:
                right, bottom = x + width, y + height
                item["segmentation"] = [[x, y, right, y, right, bottom, x, bottom]]
                item["iscrowd"] = 1
            if "area" not in annotation:
                item["area"] = _mask_area(item["segmentation"], image)
        objects.append(item)
    return objects


def _mask_area(segmentation: Any, image: Json) -> float:
    """Return the area of polygons, or of run lengths, compressed or not."""
    size = image["height"], image["width"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return float(coco_mask.area(segmentation))


def _detections(results: Sequence[Json], images: Mapping[Any, Json], iou_type: str) -> list[Json]:
    """Copy the results for listed images in the form that the libraries need.

    A copy, because the libraries modify it. The area of a mask is its own, not that of its box.
    """
    detections: list[Json] = []
    for result in results:
        image = images.get(result["image_id"])
        if image is None:
            continue
        detection = {
            "id": len(detections) + 1,
            "image_id": image["id"],
            "category_id": result["category_id"],
            "score": result["score"],
            "iscrowd": 0,
        }
        if iou_type == "segm":
            detection["segmentation"] = result["segmentation"]
            detection["area"] = float(coco_mask.area(result["segmentation"]))
        else:
            detection["bbox"] = result["bbox"]
            detection["area"] = result["bbox"][2] * result["bbox"][3]
        detections.append(detection)
    return detections
