"""Choosing evaluators by predicted tasks and available ground truth."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ..data.catalog.records import COMPLETE, known_tasks, labeled_classes, read_records
from ..errors import ConfigError, DataError
from ..tasks import TASKS
from .caption.evaluator import CaptionEvaluator
from .coco.evaluator import InstanceEvaluator
from .evaluator_list import EvaluatorList
from .official import REQUIREMENTS, build_official_evaluator
from .panoptic.evaluator import PanopticEvaluator
from .semantic import SemanticEvaluator

logger = logging.getLogger(__name__)

PREDICTIONS = (*TASKS, "panoptic")
# Metadata keys of each task's ground truth.
GROUND_TRUTH = {
    "detection": ("json_file",),
    "mask": ("json_file",),
    "semantic": ("sem_seg_root",),
    "caption": ("captions_json",),
    "panoptic": ("panoptic_json", "panoptic_root"),
}


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> EvaluatorList:
    """Build the evaluators of a configuration.

    Args:
        cfg: of the tasks and the metrics.
        dataset_name: name in detectron2's catalogs.
        output_folder: of result files; None: OUTPUT_DIR/inference/<data set>.
    """
    if cfg.TEST.COCO_PROCESSES < 1:
        raise ConfigError(f"TEST.COCO_PROCESSES must be at least 1, is {cfg.TEST.COCO_PROCESSES}")
    tasks = set(cfg.MODEL.YOLOR.TASKS)
    if {"mask", "semantic"} <= tasks and cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED:
        tasks.add("panoptic")
    return build_evaluators(
        dataset_name,
        tasks,
        output_dir=output_folder or str(Path(cfg.OUTPUT_DIR) / "inference" / dataset_name),
        coco_processes=cfg.TEST.COCO_PROCESSES,
        meteor=cfg.TEST.METEOR,
        spice=cfg.TEST.SPICE,
        plots=cfg.TEST.PLOTS,
    )


def build_evaluators(
    dataset_name: str,
    tasks: Collection[str],
    *,
    output_dir: str | None = None,
    coco_processes: int = 1,
    meteor: bool = True,
    spice: bool = False,
    plots: bool = False,
    save_predictions: bool = False,
) -> EvaluatorList:
    """Build evaluators for the tasks that are predicted and have ground truth.

    Data sets with official metrics of their own (Pascal VOC, LVIS, Cityscapes) have detectron2's
    evaluator of their evaluator_type.

    Args:
        dataset_name: name in detectron2's catalogs.
        tasks: predicted tasks, a subset of PREDICTIONS.
        output_dir: folder of result files and plots; None writes nothing.
        coco_processes: number of processes that score boxes and masks.
        meteor, spice: compute these caption metrics, if Java is available.
        plots: draw precision-recall curves and confusion matrices.
        save_predictions: write predicted semantic and panoptic maps.
    """
    kind = _evaluator_type(MetadataCatalog.get(dataset_name))
    if kind in REQUIREMENTS:
        official = build_official_evaluator(kind, dataset_name, tasks, output_dir=output_dir)
        return EvaluatorList([official])
    annotated = _annotated_tasks(dataset_name, tasks)
    map_options: dict[str, Any] = {"output_dir": output_dir, "save_predictions": save_predictions}
    evaluators: list[DatasetEvaluator] = []
    if "detection" in annotated:
        iou_types = ("bbox", "segm") if "mask" in annotated else ("bbox",)
        evaluators.append(
            InstanceEvaluator(
                dataset_name,
                tasks=iou_types,
                output_dir=output_dir,
                processes=coco_processes,
                plots=plots,
            )
        )
    if "semantic" in annotated:
        evaluators.append(SemanticEvaluator(dataset_name, plots=plots, **map_options))
    if "panoptic" in annotated:
        evaluators.append(PanopticEvaluator(dataset_name, **map_options))
    if "caption" in annotated:
        evaluators.append(
            CaptionEvaluator(dataset_name, output_dir=output_dir, meteor=meteor, spice=spice)
        )
    return EvaluatorList(evaluators)


def _evaluator_type(metadata: Metadata) -> str:
    """Return evaluator_type; detectron2's `register_pascal_voc` does not set it.

    Official metrics cover all classes. If only some are labeled, it is "", for COCO's metrics.
    """
    is_voc = all(metadata.get(key) for key in ("dirname", "split", "year"))
    kind = metadata.get("evaluator_type", "pascal_voc" if is_voc else "")
    return "" if kind in REQUIREMENTS and labeled_classes(metadata) is not None else kind


def _annotated_tasks(dataset_name: str, tasks: Collection[str]) -> set[str]:
    """Return the tasks for which a data set has ground truth, with a warning about the others."""
    metadata = MetadataCatalog.get(dataset_name)
    missing = {task: _missing_truth(metadata, task) for task in PREDICTIONS if task in tasks}
    if _needs_records(metadata, missing):
        annotated = known_tasks(read_records(dataset_name))
        unnamed = {t for t in annotated if all(metadata.get(k) is None for k in GROUND_TRUTH[t])}
        missing |= dict.fromkeys(missing.keys() & unnamed, "")
    reasons = [f"{task} ({reason})" for task, reason in missing.items() if reason]
    if len(reasons) == len(missing):
        raise DataError(f"{dataset_name}: nothing to evaluate: {', '.join(reasons)}")
    if reasons:
        logger.warning("%s: not evaluated: %s", dataset_name, ", ".join(reasons))
    return {task for task, reason in missing.items() if not reason}


def _needs_records(metadata: Metadata, missing: Mapping[str, str]) -> bool:
    """Whether ground truth can be in the records although the metadata names no file of it."""
    kind = _evaluator_type(metadata)
    if kind == COMPLETE or metadata.name not in DatasetCatalog.list():
        return False
    return all(missing.values()) or (kind.endswith("panoptic_seg") and any(missing.values()))


def _missing_truth(metadata: Metadata, task: str) -> str:
    """Name the missing part of a task's ground truth; "" if it is complete."""
    for key in GROUND_TRUTH[task]:
        value = metadata.get(key)
        if value is None:
            return f"no {key} in its metadata"
        if isinstance(value, str) and not Path(value).exists():
            return f"{value} does not exist"
    keys = ("panoptic_classes", "stuff_dataset_id_to_contiguous_id")
    if task == "panoptic" and not any(metadata.get(key) for key in keys):
        return f"no {keys[0]} in its metadata"
    return ""
