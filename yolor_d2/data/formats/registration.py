"""Registers labeled data of any recognized format in detectron2's catalogs."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pycocotools.mask as mask_util
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...errors import DataError
from ...files import write_json
from ..catalog.categories import IGNORE_LABEL, Categories
from ..catalog.datasets import set_panoptic_metadata
from ..catalog.shared_classes import set_configured_classes
from .class_match import with_classes_of
from .recognize import DataSource, recognize
from .source import TEST, TRAIN, VAL, OwnData, Record
from .split import with_validation

NAMES = {TRAIN: "own_train", VAL: "own_val", TEST: "own_test"}
ORIGIN = "own_data"  # metadata key: path of the data, folder of the annotations for evaluators


class RegisteredData(NamedTuple):
    """Labeled data in detectron2's catalogs.

    Attributes:
        path: of the data, as given.
        source: its format.
        data: its records, with a part for validation.
        is_split: whether that part was split off.
    """

    path: str
    source: DataSource
    data: OwnData
    is_split: bool


def register_own_data(path: str, *, truth_folder: Path | None = None) -> RegisteredData:
    """Read labeled data and register its parts as own_train, own_val and own_test.

    Earlier data sets of these names are replaced.

    Args:
        path: file or folder in a format of `recognize`.
        truth_folder: gets the annotations of validation and test images in COCO's format, which
            evaluators read; None writes nothing.
    """
    source = recognize(Path(path).absolute())
    data, is_split = with_validation(source.read(source.path))
    _register(data, truth_folder)
    folder = None if truth_folder is None else str(truth_folder.absolute())
    MetadataCatalog.get(NAMES[TRAIN]).set(**{ORIGIN: (str(source.path), folder)})
    return RegisteredData(path, source, data, is_split)


def register_test_data(
    path: str, network: Metadata, *, truth_folder: Path, trained_on: str = ""
) -> dict[str, int]:
    """Read labeled data and register the parts that a network is evaluated on.

    These are own_val and own_test. Data without parts are evaluated as a whole, except for images
    that the network was trained on.

    Args:
        path, truth_folder: as for `register_own_data`.
        network: metadata with the class names of the network.
        trained_on: labeled data that the network was trained on; "" or missing data: none.

    Returns:
        The number of images of each data set.

    Raises:
        DataError: the data cannot be read, or the network was trained on all images.
    """
    source = recognize(Path(path).absolute())
    data = source.read(source.path)
    parts = {part: records for part, records in data.parts.items() if part != TRAIN and records}
    if not parts:
        seen = _training_images(trained_on)
        parts = {VAL: [r for r in data.parts[TRAIN] if _real_path(r) not in seen]}
        if not parts[VAL]:
            raise DataError(f"{path}: the network was trained on all of its images")
    data = replace(data, parts=parts)
    _register(with_classes_of(data, network), truth_folder)
    return {NAMES[part]: len(records) for part, records in data.parts.items()}


def _training_images(path: str) -> set[str]:
    """Return the images of labeled data that are used for training."""
    if not path or not Path(path).exists():
        return set()
    source = recognize(Path(path).absolute())
    data, _ = with_validation(source.read(source.path))
    return set(map(_real_path, data.parts[TRAIN]))


def _real_path(record: Record) -> str:
    return os.path.realpath(record["file_name"])


def _register(data: OwnData, truth_folder: Path | None) -> None:
    names = {*NAMES.values(), *(f"{name}_panoptic" for name in NAMES.values())}
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in names & set(catalog.list()):
            catalog.remove(name)
    for part, records in data.parts.items():
        metadata = _metadata(data, records)
        if truth_folder is not None and part != TRAIN:
            metadata |= _write_truth(truth_folder, part, records, data)
        json_file = metadata.pop("panoptic_json", None)
        DatasetCatalog.register(NAMES[part], partial(list, records))
        MetadataCatalog.get(NAMES[part]).set(**metadata)
        maps = [r["pan_seg_file_name"] for r in records if "pan_seg_file_name" in r]
        if data.panoptic is not None and maps:
            set_panoptic_metadata(NAMES[part], data.panoptic, Path(maps[0]).parent, json_file)


def register_configured(cfg: CfgNode) -> None:
    """Register the data of DATASETS.DATA, if it is set, and set the classes of all data sets.

    Annotations for evaluators are written to OUTPUT_DIR/data. See `register_own_data` and
    `set_configured_classes`.
    """
    if cfg.DATASETS.DATA:
        register_own_data(cfg.DATASETS.DATA, truth_folder=_truth_folder(cfg))
    set_configured_classes(cfg)


def ensure_registered(cfg: CfgNode, *, truth: bool = True) -> None:
    """Call `register_configured`, except if the same data are registered already.

    Args:
        cfg: the configuration.
        truth: whether evaluators need annotations; False writes nothing.
    """
    if not cfg.DATASETS.DATA:
        return
    name = NAMES[TRAIN]
    path, folder = str(Path(cfg.DATASETS.DATA).absolute()), _truth_folder(cfg)
    is_registered = name in DatasetCatalog.list()
    known = MetadataCatalog.get(name).get(ORIGIN) if is_registered else None
    if known is None or known[0] != path or (truth and known[1] != str(folder.absolute())):
        register_own_data(path, truth_folder=folder if truth else None)


def _truth_folder(cfg: CfgNode) -> Path:
    return Path(cfg.OUTPUT_DIR) / "data"


def _metadata(data: OwnData, records: list[Record]) -> dict[str, Any]:
    """Return the metadata that detectron2's evaluators and Visualizer read."""
    found: dict[str, Any] = {
        "image_root": str(data.root),
        "evaluator_type": "coco_multitask",
        "ignore_label": IGNORE_LABEL,
    }
    if data.things is not None:
        found["thing_classes"] = list(data.things.names)
        found["thing_colors"] = list(data.things.colors)
        found["thing_dataset_id_to_contiguous_id"] = dict(data.things.id_to_index)
    if data.sem_seg is not None:
        found["stuff_classes"] = list(data.sem_seg.names)
        found["stuff_colors"] = list(data.sem_seg.colors)
        found["stuff_dataset_id_to_contiguous_id"] = dict(data.sem_seg.id_to_index)
        if any("sem_seg_file_name" in record for record in records):
            found["sem_seg_root"] = str(data.root)
    return found


def _write_truth(folder: Path, part: str, records: list[Record], data: OwnData) -> dict[str, str]:
    """Write the annotations in COCO's format; returns the metadata that names the files."""
    written = {}
    things, panoptic = data.things, data.panoptic
    with_objects = [record for record in records if "annotations" in record]
    if with_objects and things is not None:
        annotations = [
            _coco_object(annotation, record, things)
            for record in with_objects
            for annotation in record["annotations"]
        ]
        table = zip(things.ids, things.names, strict=True)
        content = {
            "images": [_coco_image(record) for record in with_objects],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for number, name in table],
        }
        written["json_file"] = str(folder / f"{part}_instances.json")
        write_json(Path(written["json_file"]), content)
    with_captions = [record for record in records if record.get("captions")]
    if with_captions:
        pairs = [(r["image_id"], text) for r in with_captions for text in r["captions"]]
        content = {
            "images": [_coco_image(record) for record in with_captions],
            "annotations": [
                {"id": number, "image_id": image_id, "caption": text}
                for number, (image_id, text) in enumerate(pairs, start=1)
            ],
        }
        written["captions_json"] = str(folder / f"{part}_captions.json")
        write_json(Path(written["captions_json"]), content)
    with_maps = [record for record in records if "pan_seg_file_name" in record]
    if with_maps and panoptic is not None:
        content = {
            "images": [_coco_image(record) for record in with_maps],
            "annotations": [_coco_segments(record, panoptic) for record in with_maps],
            "categories": panoptic.to_coco(),
        }
        written["panoptic_json"] = str(folder / f"{part}_panoptic.json")
        write_json(Path(written["panoptic_json"]), content)
    return written


def _coco_segments(record: Record, panoptic: Categories) -> Record:
    segments = [
        {**segment, "category_id": panoptic.ids[segment["category_id"]]}
        for segment in record["segments_info"]
    ]
    name = Path(record["pan_seg_file_name"]).name
    return {"image_id": record["image_id"], "file_name": name, "segments_info": segments}


def _coco_image(record: Record) -> Record:
    keys = ("file_name", "width", "height")
    return {"id": record["image_id"], **{key: record[key] for key in keys}}


def _coco_object(annotation: Mapping[str, Any], record: Record, things: Categories) -> Record:
    segmentation = annotation.get("segmentation")
    area = annotation["bbox"][2] * annotation["bbox"][3]
    if isinstance(segmentation, list):
        size = (record["height"], record["width"])
        outline = mask_util.merge(mask_util.frPyObjects(segmentation, *size))
        area = float(mask_util.area(outline))
    elif segmentation is not None:
        area = float(mask_util.area(segmentation))
        if isinstance(segmentation["counts"], bytes):
            counts = segmentation["counts"].decode("ascii")
            segmentation = {**segmentation, "counts": counts}
    entry = {
        "id": annotation["id"],
        "image_id": record["image_id"],
        "category_id": things.ids[annotation["category_id"]],
        "bbox": annotation["bbox"],
        "area": area,
        "iscrowd": annotation["iscrowd"],
    }
    return entry if segmentation is None else {**entry, "segmentation": segmentation}
