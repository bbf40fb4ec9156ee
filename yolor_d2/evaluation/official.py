"""detectron2's evaluators, for data sets whose official metrics this package does not compute."""

import importlib
from collections.abc import Collection
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import numpy as np
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    DatasetEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)

from ..data.catalog.records import read_metadata
from ..errors import DataError, PackageError

SCRIPTS = "cityscapesscripts.evaluation"


class Requirement(NamedTuple):
    """What an evaluator needs: a predicted task, and a module of an optional package; "": none."""

    task: str
    module: str = ""


# By the evaluator_type of the metadata.
REQUIREMENTS = {
    "pascal_voc": Requirement("detection"),
    "lvis": Requirement("detection", "lvis.eval"),
    "cityscapes_instance": Requirement("mask", f"{SCRIPTS}.evalInstanceLevelSemanticLabeling"),
    "cityscapes_sem_seg": Requirement("semantic", f"{SCRIPTS}.evalPixelLevelSemanticLabeling"),
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
    task, module = REQUIREMENTS[kind]
    if task not in tasks:
        raise DataError(f"{dataset_name}: nothing to evaluate: {kind} evaluates {task}")
    if module:
        try:
            _supply_numpy(importlib.import_module(module))
        except ModuleNotFoundError as error:
            message = f"{dataset_name}: its evaluation needs the package {error.name}"
            raise PackageError(message) from error
    read_metadata(dataset_name)
    if kind == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset_name)
    if kind == "cityscapes_instance":
        return CityscapesInstanceEvaluator(dataset_name)
    if kind == "cityscapes_sem_seg":
        return CityscapesSemSegEvaluator(dataset_name)
    iou_types = ("bbox", "segm") if "mask" in tasks else ("bbox",)
    return LVISEvaluator(dataset_name, tasks=iou_types, output_dir=output_dir)


def _supply_numpy(module: ModuleType) -> None:
    """Give a module the NumPy that lvis 0.5.3 and cityscapesscripts 2.3, the newest, expect.

    `float` and `in1d` were removed, and `count_nonzero` returned an int, which json accepts.
    """
    earlier = {
        "float": float,
        "in1d": np.isin,
        "count_nonzero": lambda values: int(np.count_nonzero(values)),
    }
    module.__dict__["np"] = SimpleNamespace(**{**vars(np), **earlier})
