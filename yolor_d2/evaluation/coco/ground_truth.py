"""COCO ground truth of a data set: its file, or else its records."""

from pathlib import Path
from typing import Any

import pycocotools.mask as mask_util
from detectron2.data import Metadata
from detectron2.structures import BoxMode, PolygonMasks

from ...data.catalog.records import read_metadata, read_records
from ...data.files.contents import read_json
from ...data.views.reading import RecordReader

Json = dict[str, Any]


def read_ground_truth(dataset_name: str) -> Json:
    """Return the content of the metadata's "json_file"; without one, the records in its format."""
    metadata = read_metadata(dataset_name)
    path = metadata.get("json_file")
    if path:
        return read_json(Path(path))
    return records_to_coco(read_records(dataset_name), metadata)


def records_to_coco(records: list[Json], metadata: Metadata) -> Json:
    """Convert records to COCO's format, as detectron2's `convert_to_coco_json` does.

    The objects of panoptic records are those of their maps.
    """
    to_index = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    ids: dict[int, int] = {index: category_id for category_id, index in to_index.items()}
    names = metadata.get("thing_classes") or ()
    reader = RecordReader()
    annotations: list[Json] = []
    for record in records:
        reader.start_sample()
        for each in reader.annotations(record):
            index: int = each["category_id"]
            made = _annotation(each, ids.get(index, index))
            made |= {"id": len(annotations) + 1, "image_id": record["image_id"]}
            annotations.append(made)
    keys = {"id": "image_id", "width": "width", "height": "height", "file_name": "file_name"}
    return {
        "images": [{key: record[of] for key, of in keys.items()} for record in records],
        "categories": [
            {"id": ids.get(index, index), "name": name}
            for index, name in enumerate(names)
            if not ids or index in ids
        ],
        "annotations": annotations,
    }


def _annotation(annotation: Json, category_id: int) -> Json:
    box = [float(value) for value in annotation["bbox"]]
    box = BoxMode.convert(box, annotation["bbox_mode"], BoxMode.XYWH_ABS)
    made = {
        "bbox": box,
        "category_id": category_id,
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "area": float(box[2] * box[3]),
    }
    segmentation = annotation.get("segmentation")
    if segmentation is not None:
        made["segmentation"] = segmentation
        if isinstance(segmentation, dict):
            made["area"] = float(mask_util.area(segmentation))
        else:
            made["area"] = float(PolygonMasks([segmentation]).area()[0])
    return made
