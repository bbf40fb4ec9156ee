"""Result files of an evaluation, joined with the records of their data set, and drawn."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances

from ..data.catalog.records import read_records
from ..data.files.contents import read_json
from ..errors import FileError, OptionError
from ..structures import RLEMasks
from ..visualization import draw_results, side_by_side
from .ground_truth import record_image, true_instances
from .html_page import Figure

Json = dict[str, Any]

OBJECTS_FILE = "coco_instances_results.json"
CAPTIONS_FILE = "captions_results.json"
OBJECT_LAYERS = ("masks", "boxes", "labels")
TITLES = ("image", "true", "predicted")
MARGIN = 0.75  # around a box in a close-up, relative to its longer side
MIN_CLOSEUP_SIDE = 240  # pixels


@dataclass(frozen=True, kw_only=True)
class Album:
    """A data set with the results for its images.

    Attributes:
        dataset_name: name in detectron2's catalogs.
        records: records of the data set by image id.
        metadata: metadata of the data set.
        objects: detections by image id, with contiguous class indices; None without a file.
        captions: predicted captions by image id; None without a file.
        threshold: objects with a lower score are left out.
    """

    dataset_name: str
    records: Mapping[int, Json]
    metadata: Metadata
    objects: Mapping[int, list[Json]] | None
    captions: Mapping[int, str] | None
    threshold: float

    @cached_property
    def annotations(self) -> dict[int, list[Json]]:
        """Ground truth objects of all images that have annotations."""
        known = {i: record.get("annotations") for i, record in self.records.items()}
        return {i: annotations for i, annotations in known.items() if annotations is not None}

    @cached_property
    def references(self) -> dict[int, list[str]]:
        """Reference captions of all images."""
        return {i: record.get("captions", []) for i, record in self.records.items()}

    @property
    def class_names(self) -> Sequence[str]:
        """Class names by contiguous index."""
        return self.metadata.thing_classes

    def class_name(self, item: Json) -> str:
        """Return the class name of an annotation or detection."""
        return self.class_names[item["category_id"]]

    def file_name(self, image_id: int) -> str:
        """Return the file name of an image without its folder."""
        return Path(self.records[image_id]["file_name"]).name

    def draw_image(self, image_id: int) -> np.ndarray:
        """Return an image without annotations, enlarged if it is small."""
        return draw_results(record_image(self.records[image_id]), {}, self.metadata)

    def draw_comparison(self, image_id: int) -> np.ndarray:
        """Draw an image, the image with its objects, and the image with the detections."""
        assert self.objects is not None
        pictures = self._draw_all(image_id, self.annotations[image_id], self.objects[image_id])
        return side_by_side(pictures, titles=TITLES)

    def closeup(
        self,
        image_id: int,
        *,
        annotations: Sequence[Json],
        results: Sequence[Json],
        box: Sequence[float],
        title: str,
        note: str,
    ) -> Figure:
        """Draw the surroundings of a box (x, y, width, height) as in `draw_comparison`."""
        pictures = self._draw_all(image_id, annotations, results)
        scale = pictures[0].shape[1] / self.records[image_id]["width"]
        crops = [_crop(picture, np.array(box) * scale) for picture in pictures]
        picture = side_by_side(crops, titles=TITLES)
        return Figure(picture, f"{title} in {self.file_name(image_id)}", note)

    def _draw_all(
        self, image_id: int, annotations: Sequence[Json], results: Sequence[Json]
    ) -> list[np.ndarray]:
        record = self.records[image_id]
        image = record_image(record)
        true, predicted = true_instances(record, list(annotations)), to_instances(record, results)
        return [
            draw_results(
                image,
                result,
                self.metadata,
                layers=OBJECT_LAYERS,
                score_threshold=self.threshold,
            )
            for result in ({}, {"instances": true}, {"instances": predicted})
        ]


def _crop(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Crop a square around a box x, y, width, height, clipped to the picture."""
    half = max((0.5 + MARGIN) * box[2:].max(), MIN_CLOSEUP_SIDE / 2)
    center = box[:2] + box[2:] / 2
    size = np.array(picture.shape[1::-1])
    x0, y0 = np.clip(center - half, 0, size - 1).astype(int)
    x1, y1 = np.clip(center + half, (x0 + 1, y0 + 1), size).astype(int)
    return picture[y0:y1, x0:x1]


def to_instances(record: Json, results: Sequence[Json]) -> Instances:
    """Convert an image's detections from COCO's result format to a model's output."""
    height, width = record["height"], record["width"]
    instances = Instances((height, width))
    boxes = torch.tensor([result["bbox"] for result in results]).reshape(-1, 4)
    instances.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
    instances.scores = torch.tensor([result["score"] for result in results])
    instances.pred_classes = torch.tensor([result["category_id"] for result in results]).long()
    if results and all("segmentation" in result for result in results):
        rles = [result["segmentation"] for result in results]
        instances.pred_masks = RLEMasks(rles, height, width)
    return instances


def read_results(folder: Path, test_sets: Sequence[str], *, threshold: float) -> Album:
    """Read the result files of a folder.

    Args:
        folder: folder with the name of the data set, or of any name if there is one test set.
        test_sets: DATASETS.TEST.
        threshold: objects with a lower score are left out.
    """
    name = folder.resolve().name
    if name not in DatasetCatalog.list():
        if len(test_sets) != 1:
            raise OptionError(
                f"{folder}: its name is not a data set, and DATASETS.TEST does not have exactly one"
            )
        name = test_sets[0]
    objects = _read_list(folder / OBJECTS_FILE, {"image_id", "category_id", "bbox", "score"})
    captions = _read_list(folder / CAPTIONS_FILE, {"image_id", "caption"})
    if objects is None and captions is None:
        raise FileError(f"{folder}: has neither {OBJECTS_FILE} nor {CAPTIONS_FILE}")
    records = {record["image_id"]: record for record in read_records(name)}
    found = {result["image_id"] for result in [*(objects or ()), *(captions or ())]}
    if found and found.isdisjoint(records):
        raise FileError(f"{folder}: has no results for images of {name}")
    metadata = MetadataCatalog.get(name)
    return Album(
        dataset_name=name,
        records=records,
        metadata=metadata,
        objects=None if objects is None else _by_image(objects, metadata, folder / OBJECTS_FILE),
        captions=None if captions is None else {c["image_id"]: c["caption"] for c in captions},
        threshold=threshold,
    )


def _read_list(path: Path, fields: set[str]) -> list[Json] | None:
    """Return the entries of a result file; None if it does not exist."""
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise FileError(f"{path}: is not a list of results")
    for entry in content:
        if missing := fields - entry.keys():
            raise FileError(f"{path}: a result has no {min(missing)}")
    return content


def _by_image(results: Sequence[Json], metadata: Metadata, path: Path) -> dict[int, list[Json]]:
    """Group detections by image, with contiguous class indices."""
    to_index = metadata.get("thing_dataset_id_to_contiguous_id", {})
    unknown = {result["category_id"] for result in results} - to_index.keys()
    if unknown:
        raise FileError(f"{path}: category {min(unknown)} is not a class of {metadata.name}")
    by_image: dict[int, list[Json]] = defaultdict(list)
    for result in results:
        category = to_index[result["category_id"]]
        by_image[result["image_id"]].append({**result, "category_id": category})
    return by_image
