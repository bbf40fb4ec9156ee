"""COCO's average precision and recall, by faster-coco-eval, or by pycocotools where that is absent.

Both give the same numbers; what differs is the time.
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

from ..missing import Missing

try:
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster as COCOeval

    WHY_SLOW = ""
except ImportError as error:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    WHY_SLOW = str(error)

logger = logging.getLogger(__name__)

Json = dict[str, Any]

AREAS = {"": 0, "s": 1, "m": 2, "l": 3}  # all, small (< 32 x 32), medium, large (> 96 x 96)
MAX_DETECTIONS = (1, 10, 100)  # of an image and class


class Scores(NamedTuple):
    """Over 10 thresholds of overlap, 101 of recall, C categories, AREAS, MAX_DETECTIONS.

    -1 is where the ground truth has no object.
    """

    precision: np.ndarray  # (10, 101, C, 4, 3)
    recall: np.ndarray  # (10, C, 4, 3)

    def headline(self) -> dict[str, float]:
        """COCO's twelve numbers, in percent; NaN where the ground truth has no such object."""
        best = self.precision[..., -1]  # (10, 101, C, 4)
        numbers = {"AP": best[..., 0], "AP50": best[0, ..., 0], "AP75": best[5, ..., 0]}
        numbers |= {f"AP{name}": best[..., area] for name, area in AREAS.items()}
        numbers |= {
            f"AR@{limit}": self.recall[..., 0, index] for index, limit in enumerate(MAX_DETECTIONS)
        }
        numbers |= {f"AR{name}@100": self.recall[..., area, -1] for name, area in AREAS.items()}
        return {name: _mean(values) for name, values in numbers.items()}

    def average_precision(self) -> list[float]:
        """AP of each category, in percent."""
        return [_mean(values) for values in np.moveaxis(self.precision[..., 0, -1], 2, 0)]


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(100 * known.mean()) if known.size else Missing("nothing of the kind is annotated")


def score(
    dataset: Mapping[str, Any],
    results: Sequence[Json],
    iou_type: str,
    *,
    processes: int = 1,
) -> Scores:
    """Score detections.

    Args:
        dataset: content of a file of COCO's instances. An object without a mask is to masks what a
            crowd is: neither found nor missed.
        results: in COCO's result format. Those of images that the file does not list do not count.
        iou_type: "bbox" or "segm".
        processes: the categories are shared out among so many.

    Returns:
        Of the categories of the file, in the order of their ids.
    """
    if WHY_SLOW:
        _warn_of_slowness()
    shares = _shared_out(dataset, results, iou_type, processes)
    if len(shares) == 1:
        return shares[0].score()
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    with ProcessPoolExecutor(
        len(shares) - 1,
        # A forked process has at once whatever its parent has.
        mp_context=multiprocessing.get_context("fork" if can_fork else None),
        initializer=_keep,
        initargs=(shares,),
    ) as pool:
        others = pool.map(_score_kept, range(1, len(shares)))
        parts = [shares[0].score(), *others]  # this process works, too
    order = np.argsort([category for share in shares for category in share.categories])
    return Scores(
        np.concatenate([part.precision for part in parts], axis=2)[:, :, order],
        np.concatenate([part.recall for part in parts], axis=1)[:, order],
    )


@functools.cache  # said once
def _warn_of_slowness() -> None:
    logger.warning(
        "faster-coco-eval cannot be imported (%s): pycocotools scores boxes and masks, which takes "
        "several times as long",
        WHY_SLOW,
    )


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """Look for no garbage: among millions of objects that all are in use it takes long."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Share(NamedTuple):
    """Some of the categories, with their objects and results."""

    iou_type: str
    categories: list[int]  # in the order of their ids
    images: Sequence[Json]
    annotations: list[Json]
    results: list[Json]

    @_garbage_kept()
    def score(self) -> Scores:
        # Libraries want whole numbers; their order decides between equal scores.
        listed = sorted(self.images, key=lambda i: (isinstance(i["id"], str), i["id"]))
        by_id = {image["id"]: {**image, "id": number} for number, image in enumerate(listed)}
        images = list(by_id.values())
        truth = _objects(self.annotations, by_id, self.iou_type)
        found = _detections(self.results, by_id, self.iou_type)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(
                self._index(images, truth), self._index(images, found), self.iou_type
            )
            evaluation.rle_iou_max_workers = 1  # its threads wait for each other
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


_kept: Sequence[_Share]  # of a process that scores one of them


def _keep(shares: Sequence[_Share]) -> None:
    global _kept
    _kept = shares


def _score_kept(number: int) -> Scores:
    return _kept[number].score()


def _shared_out(
    dataset: Mapping[str, Any], results: Sequence[Json], iou_type: str, processes: int
) -> list[_Share]:
    """The categories in shares with about as many objects and results each."""
    objects = _by_category(dataset.get("annotations", []))
    found = _by_category(results)
    categories = [category["id"] for category in dataset["categories"]]
    sizes = {category: len(objects[category]) + len(found[category]) for category in categories}
    groups: list[list[int]] = [[] for _ in range(max(min(processes, len(categories)), 1))]
    for category in sorted(categories, key=lambda category: -sizes[category]):
        min(groups, key=lambda group: (sum(sizes[c] for c in group), len(group))).append(category)
    return [
        _Share(
            iou_type,
            sorted(group),
            dataset["images"],
            annotations=[item for category in group for item in objects[category]],
            results=[item for category in group for item in found[category]],
        )
        for group in groups
    ]


def _by_category(items: Sequence[Json]) -> dict[int, list[Json]]:
    groups: dict[int, list[Json]] = defaultdict(list)
    for item in items:
        groups[item["category_id"]].append(item)
    return groups


def _objects(annotations: Sequence[Json], images: Mapping[Any, Json], iou_type: str) -> list[Json]:
    """The ground truth in the form that libraries want, as a copy, because they add to it.

    What is on images that are not listed does not count.
    """
    objects = []
    for number, annotation in enumerate(annotations, start=1):  # 0 means "no object" to them
        image = images.get(annotation["image_id"])
        if image is None:
            continue
        x, y, width, height = annotation["bbox"]
        known = {
            "id": number,
            "image_id": image["id"],
            "category_id": annotation["category_id"],
            "bbox": annotation["bbox"],
            "area": annotation.get("area", width * height),
            "iscrowd": annotation.get("iscrowd", 0),
        }
        if iou_type == "segm":
            known["segmentation"] = annotation.get("segmentation")
            if not known["segmentation"]:
                right, bottom = x + width, y + height
                known["segmentation"] = [[x, y, right, y, right, bottom, x, bottom]]
                known["iscrowd"] = 1
            if "area" not in annotation:
                known["area"] = _mask_area(known["segmentation"], image)
        objects.append(known)
    return objects


def _mask_area(segmentation: Any, image: Json) -> float:
    """Of polygons, or of run lengths, compressed or not."""
    size = image["height"], image["width"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return float(coco_mask.area(segmentation))


def _detections(results: Sequence[Json], images: Mapping[Any, Json], iou_type: str) -> list[Json]:
    """Results in the form that libraries want, as a copy, because they add to it.

    Masks are small or large by their own area, not by their boxes'.
    """
    detections: list[Json] = []
    for result in results:
        image = images.get(result["image_id"])
        if image is None:
            continue
        found = {
            "id": len(detections) + 1,
            "image_id": image["id"],
            "category_id": result["category_id"],
            "score": result["score"],
            "iscrowd": 0,
        }
        if iou_type == "segm":
            found["segmentation"] = result["segmentation"]
            found["area"] = float(coco_mask.area(result["segmentation"]))
        else:
            found["bbox"] = result["bbox"]
            found["area"] = result["bbox"][2] * result["bbox"][3]
        detections.append(found)
    return detections
