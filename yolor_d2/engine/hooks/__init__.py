"""Hooks between the steps of a run. They take explicit arguments and read no configuration.

docs/reference/trainer.md gives their order.
"""

from .best_checkpoint import BestCheckpoint
from .curves import MetricCurves
from .data_wait import DataWait
from .early_stop import EarlyStop
from .memory_advice import explain_out_of_memory
from .samples import SamplePictures, draw_first_samples
from .validation_loss import ValidationLoss

__all__ = [
    "BestCheckpoint",
    "DataWait",
    "EarlyStop",
    "MetricCurves",
    "SamplePictures",
    "ValidationLoss",
    "draw_first_samples",
    "explain_out_of_memory",
]
