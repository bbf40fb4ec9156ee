"""What is done between the steps of a run, with explicit arguments: no configuration is read here.

`docs/training.md` says in which order they belong.
"""

from .best_checkpoint import BestCheckpoint
from .curves import MetricCurves
from .data_wait import DataWait
from .early_stop import EarlyStop
from .memory_advice import explain_out_of_memory, is_out_of_memory
from .samples import draw_first_samples
from .validation_loss import ValidationLoss

__all__ = [
    "BestCheckpoint",
    "DataWait",
    "EarlyStop",
    "MetricCurves",
    "ValidationLoss",
    "draw_first_samples",
    "explain_out_of_memory",
    "is_out_of_memory",
]
