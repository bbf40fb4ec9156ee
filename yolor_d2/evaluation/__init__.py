"""Metrics of predictions, as detectron2 DatasetEvaluators."""

from ..modeling.test_time_augmentation import TestTimeAugmentation
from .build import build_evaluator, build_evaluators
from .caption.evaluator import CaptionEvaluator
from .coco.evaluator import InstanceEvaluator
from .panoptic.evaluator import PanopticEvaluator
from .report import write_report
from .semantic import SemanticEvaluator

__all__ = [
    "CaptionEvaluator",
    "InstanceEvaluator",
    "PanopticEvaluator",
    "SemanticEvaluator",
    "TestTimeAugmentation",
    "build_evaluator",
    "build_evaluators",
    "write_report",
]
