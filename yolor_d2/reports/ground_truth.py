"""Ground truth of an image in the form of a model's output, to be drawn in the same way."""

from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from ..data.catalog.categories import IGNORE_LABEL
from ..data.files.images import read_image
from ..data.files.semantic_files import read_index_png
from ..data.views.targets import rasterize_all, read_objects
from ..structures import SemanticMap

Json = dict[str, Any]


def record_image(record: Json) -> np.ndarray:
    """Return the image of a record, RGB (H, W, 3)."""
    return read_image(record["file_name"], width=record["width"], height=record["height"])


def true_result(record: Json) -> Json:
    """Return all annotations of an image; its captions are lines of one text."""
    result: Json = {}
    if "annotations" in record:
        result["instances"] = true_instances(record, record["annotations"])
    if "sem_seg_file_name" in record:
        labels = torch.from_numpy(read_index_png(record["sem_seg_file_name"]))
        result["sem_seg"] = SemanticMap(labels, num_classes=IGNORE_LABEL)
    if "segments_info" in record:
        result["panoptic_seg"] = (torch.from_numpy(_segment_ids(record)), record["segments_info"])
    if record.get("captions"):
        result["caption"] = "\n".join(record["captions"])
    return result


def true_instances(record: Json, annotations: list[Json]) -> Instances:
    """Return some of an image's objects, without scores; crowds are kept."""
    objects = read_objects({**record, "annotations": [{**a, "iscrowd": 0} for a in annotations]})
    masks = rasterize_all(
        [objects.outlines(index) for index in range(len(objects.classes))],
        width=record["width"],
        height=record["height"],
        stride=1,
    )
    instances = Instances((record["height"], record["width"]))
    instances.pred_boxes = Boxes(torch.from_numpy(objects.boxes))
    instances.pred_classes = torch.from_numpy(objects.classes)
    instances.pred_masks = torch.from_numpy(masks)
    return instances


def _segment_ids(record: Json) -> np.ndarray:
    """Return segment ids (H, W) int64 from the colors of COCO's file."""
    size = {"width": record["width"], "height": record["height"]}
    colors = read_image(record["pan_seg_file_name"], **size)
    return colors.astype(np.int64) @ (1, 256, 65536)
