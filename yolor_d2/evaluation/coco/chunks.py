"""Objects and results of COCO data sets, split into chunks of categories.

The results are kept as arrays and not as dictionaries: reading a Python object writes its reference
count, so that a forked process would copy every page of memory that it reads.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from ..gathering import image_id_key

Json = dict[str, Any]


class GroundTruth:
    """Content of a COCO instances file.

    Attributes:
        numbers: of the images, by id. The libraries need integers, whose order breaks ties between
            equal scores.
        images: in the order of their numbers.
        categories: sorted ids.
        objects: annotations of listed images, by category.
    """

    def __init__(self, dataset: Mapping[str, Any], iou_type: str) -> None:
        by_id = {image["id"]: image for image in dataset["images"]}
        self.iou_type = iou_type
        self.numbers = {key: number for number, key in enumerate(sorted(by_id, key=image_id_key))}
        self.images = [{**by_id[key], "id": number} for key, number in self.numbers.items()]
        self.categories = sorted(category["id"] for category in dataset["categories"])
        self.objects: dict[int, list[Json]] = defaultdict(list)
        for annotation in dataset.get("annotations", []):
            if annotation["image_id"] in self.numbers:
                self.objects[annotation["category_id"]].append(annotation)


class Columns(NamedTuple):
    """D results as arrays."""

    image: np.ndarray  # (D,) numbers
    category: np.ndarray  # (D,) ids
    score: np.ndarray  # (D,)
    box: np.ndarray | None  # (D, 4) x, y, width, height
    size: np.ndarray | None  # (D, 2) height and width of masks
    end: np.ndarray  # (D + 1,) ends of the run lengths of the previous mask and of each mask
    counts: bytes  # compressed run lengths of all masks

    def masks(self, rows: np.ndarray) -> list[Json]:
        """Return some of the masks as COCO's run lengths."""
        assert self.size is not None
        bounds = zip(self.end[rows].tolist(), self.end[rows + 1].tolist(), strict=True)
        return [
            {"size": size, "counts": self.counts[start:stop]}
            for size, (start, stop) in zip(self.size[rows].tolist(), bounds, strict=True)
        ]


def make_columns(results: Sequence[Json], numbers: Mapping[Any, int], iou_type: str) -> Columns:
    """Return the results for listed images as arrays.

    Args:
        results: in COCO's format.
        numbers: of the listed images, by id.
        iou_type: "bbox" or "segm": whether boxes or masks are needed.
    """
    images = np.array([numbers.get(each, -1) for each in _values(results, "image_id")], int)
    if (images < 0).any():
        results = [result for result, image in zip(results, images, strict=True) if image >= 0]
        images = images[images >= 0]
    box, size, end, counts = None, None, np.zeros(0, int), b""
    if iou_type == "segm":
        masks = [*_values(results, "segmentation")]
        size = np.array([*_values(masks, "size")], int).reshape(-1, 2)
        runs = [r.encode() if isinstance(r, str) else r for r in _values(masks, "counts")]
        end = np.cumsum([0, *map(len, runs)])
        counts = b"".join(runs)
    else:
        box = np.fromiter(chain.from_iterable(_values(results, "bbox")), float).reshape(-1, 4)
    categories, scores = (
        np.fromiter(_values(results, key), kind, len(results))
        for key, kind in (("category_id", int), ("score", float))
    )
    return Columns(images, categories, scores, box, size, end, counts)


def _values(items: Sequence[Json], key: str) -> Iterator[Any]:
    return map(itemgetter(key), items)


class Chunk(NamedTuple):
    """Some of the categories, with their objects and results."""

    truth: GroundTruth
    columns: Columns
    categories: list[int]  # sorted
    rows: np.ndarray  # of the results

    @property
    def iou_type(self) -> str:
        return self.truth.iou_type

    @property
    def images(self) -> list[Json]:
        return self.truth.images

    def objects(self) -> list[Json]:
        """Copy the annotations in the form that the libraries need, which modify them."""
        annotations = chain.from_iterable(self.truth.objects[i] for i in self.categories)
        # id 0 means "no match" to the libraries
        return [self._object(item, number) for number, item in enumerate(annotations, start=1)]

    def _object(self, annotation: Json, number: int) -> Json:
        image = self.images[self.truth.numbers[annotation["image_id"]]]
        x, y, width, height = annotation["bbox"]
        item = {
            "id": number,
            "image_id": image["id"],
            "category_id": annotation["category_id"],
            "bbox": annotation["bbox"],
            "area": annotation.get("area", width * height),
            "iscrowd": annotation.get("iscrowd", 0),
        }
        if self.iou_type == "segm":
            item["segmentation"] = annotation.get("segmentation")
            if not item["segmentation"]:
                right, bottom = x + width, y + height
                item["segmentation"] = [[x, y, right, y, right, bottom, x, bottom]]
                item["iscrowd"] = 1
            if "area" not in annotation:
                item["area"] = _mask_area(item["segmentation"], image)
        return item

    def detections(self) -> list[Json]:
        """Return the results in the form that the libraries need.

        The area of a mask is its own, not that of its box.
        """
        columns, rows = self.columns, self.rows
        if columns.box is None:
            name, shapes = "segmentation", columns.masks(rows)
            areas = np.array([float(coco_mask.area(shape)) for shape in shapes])
        else:
            name, shapes = "bbox", columns.box[rows].tolist()
            areas = columns.box[rows, 2] * columns.box[rows, 3]
        parts = (columns.image[rows], columns.category[rows], columns.score[rows], areas)
        return [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "score": score,
                "iscrowd": 0,
                name: shape,
                "area": area,
            }
            for number, (shape, image, category, score, area) in enumerate(
                zip(shapes, *(part.tolist() for part in parts), strict=True), start=1
            )
        ]


def _mask_area(segmentation: Any, image: Json) -> float:
    """Return the area of polygons, or of run lengths, compressed or not."""
    size = image["height"], image["width"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return float(coco_mask.area(segmentation))


def split(truth: GroundTruth, columns: Columns, number: int) -> list[Chunk]:
    """Split the categories into at most `number` chunks of similar size, the largest first."""
    found = Counter(columns.category.tolist())
    sizes = {i: len(truth.objects[i]) + found[i] for i in truth.categories}
    groups: list[list[int]] = [[] for _ in range(max(min(number, len(sizes)), 1))]
    weights = [0] * len(groups)
    for category in sorted(sizes, key=lambda category: -sizes[category]):
        lightest = min(range(len(groups)), key=lambda i: (weights[i], len(groups[i])))
        groups[lightest].append(category)
        weights[lightest] += sizes[category]
    groups.sort(key=lambda group: -sum(sizes[i] for i in group))
    return [
        Chunk(truth, columns, sorted(group), np.flatnonzero(np.isin(columns.category, group)))
        for group in groups
    ]
