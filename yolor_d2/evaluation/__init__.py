"""Scores of predictions, behind detectron2's DatasetEvaluator."""

from .build import build_evaluator, build_evaluators
from .caption import CaptionEvaluator
from .coco import InstanceEvaluator
from .panoptic import PanopticEvaluator
from .report import write_report
from .semantic import SemanticEvaluator
from .tta import TestTimeAugmentation

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
