"""detectron2's evaluators, for data sets whose official metrics this package does not compute."""

import importlib
from collections.abc import Collection
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    DatasetEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)

from ..data.catalog.records import read_metadata

# By the evaluator_type of the metadata: predictions that are required, and the package.
REQUIREMENTS = {
    "pascal_voc": ("detection", ""),
    "lvis": ("detection", "lvis"),
    "cityscapes_instance": ("mask", "cityscapesscripts"),
    "cityscapes_sem_seg": ("semantic", "cityscapesscripts"),
}


def build_official_evaluator(
    kind: str, dataset_name: str, tasks: Collection[str], *, output_dir: str | None
) -> DatasetEvaluator:
    """Return the evaluator that detectron2's tools/train_net.py chooses.

    Args:
        kind: evaluator_type, a key of REQUIREMENTS.
        dataset_name: name in detectron2's catalogs.
        tasks: predicted tasks.
        output_dir: folder of result files; None writes nothing.

    Raises:
        ValueError: a task is not predicted, or a package is missing.
    """
    task, package = REQUIREMENTS[kind]
    if task not in tasks:
        raise ValueError(f"{dataset_name}: nothing to evaluate: {kind} evaluates {task}")
    if package and find_spec(package) is None:
        raise ValueError(f"{dataset_name}: its evaluation needs the package {package}")
    read_metadata(dataset_name)
    if kind == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset_name)
    if kind == "cityscapes_instance":
        return CityscapesInstanceEvaluator(dataset_name)
    if kind == "cityscapes_sem_seg":
        return CityscapesSemSegEvaluator(dataset_name)
    _supply_float()
    iou_types = ("bbox", "segm") if "mask" in tasks else ("bbox",)
    return LVISEvaluator(dataset_name, tasks=iou_types, output_dir=output_dir)


def _supply_float() -> None:
    """Give lvis 0.5.3, the newest release, its np.float, which NumPy 1.24 removed."""
    if not hasattr(np, "float"):
        module = importlib.import_module("lvis.eval")
        module.__dict__["np"] = SimpleNamespace(**vars(np), float=float)
