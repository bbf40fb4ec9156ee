"""Which evaluators suit a data set and what is predicted."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ..tasks import TASKS
from .caption.evaluator import CaptionEvaluator
from .coco.evaluator import InstanceEvaluator
from .evaluator_list import EvaluatorList
from .panoptic.evaluator import PanopticEvaluator
from .semantic import SemanticEvaluator

logger = logging.getLogger(__name__)

PREDICTIONS = (*TASKS, "panoptic")
# What of the metadata names the files of the ground truth.
GROUND_TRUTH = {
    "detection": ("json_file",),
    "mask": ("json_file",),
    "semantic": ("sem_seg_root",),
    "caption": ("captions_json",),
    "panoptic": ("panoptic_json", "panoptic_root", "panoptic_classes"),
}


def build_evaluator(cfg: CfgNode, dataset_name: str) -> EvaluatorList:
    """The evaluators of a configuration; what they write is in OUTPUT_DIR/inference/<data set>."""
    if cfg.TEST.COCO_PROCESSES < 1:
        raise ValueError(f"TEST.COCO_PROCESSES must be at least 1, is {cfg.TEST.COCO_PROCESSES}")
    tasks = set(cfg.MODEL.YOLOR.TASKS)
    if {"mask", "semantic"} <= tasks and cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED:
        tasks.add("panoptic")
    return build_evaluators(
        dataset_name,
        tasks,
        output_dir=str(Path(cfg.OUTPUT_DIR) / "inference" / dataset_name),
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
    """Evaluators of whatever is both predicted and known.

    Args:
        dataset_name: in detectron2's catalogues.
        tasks: what is predicted, some of PREDICTIONS.
        output_dir: for result files and pictures; None writes none.
        coco_processes: that share the scoring of boxes and masks.
        meteor, spice: compute these caption metrics, where Java is there.
        plots: draw precision-recall curves and confusion matrices.
        save_predictions: write predicted semantic and panoptic maps.
    """
    known = _known_tasks(dataset_name, tasks)
    maps: dict[str, Any] = {"output_dir": output_dir, "save_predictions": save_predictions}
    evaluators: list[DatasetEvaluator] = []
    if "detection" in known:
        shapes = ("bbox", "segm") if "mask" in known else ("bbox",)
        evaluators.append(
            InstanceEvaluator(
                dataset_name,
                tasks=shapes,
                output_dir=output_dir,
                processes=coco_processes,
                plots=plots,
            )
        )
    if "semantic" in known:
        evaluators.append(SemanticEvaluator(dataset_name, plots=plots, **maps))
    if "panoptic" in known:
        evaluators.append(PanopticEvaluator(dataset_name, **maps))
    if "caption" in known:
        evaluators.append(
            CaptionEvaluator(dataset_name, output_dir=output_dir, meteor=meteor, spice=spice)
        )
    return EvaluatorList(evaluators)


def _known_tasks(dataset_name: str, tasks: Collection[str]) -> set[str]:
    """The tasks that a data set has the ground truth of; says which it has not."""
    metadata = MetadataCatalog.get(dataset_name)
    missing = {task: _missing(metadata, task) for task in PREDICTIONS if task in tasks}
    reasons = [f"{task} ({reason})" for task, reason in missing.items() if reason]
    if len(reasons) == len(missing):
        raise ValueError(f"{dataset_name}: nothing to evaluate: {', '.join(reasons)}")
    if reasons:
        logger.warning("%s: not evaluated: %s", dataset_name, ", ".join(reasons))
    return {task for task, reason in missing.items() if not reason}


def _missing(metadata: Metadata, task: str) -> str:
    """What of a task's ground truth is not there; "" if all is."""
    for key in GROUND_TRUTH[task]:
        value = metadata.get(key)
        if value is None:
            return f"its metadata have no {key}"
        if isinstance(value, str) and not Path(value).exists():
            return f"{value} is not there"
    return ""
