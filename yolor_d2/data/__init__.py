"""Data sets in detectron2's catalog, and their loaders."""

from .catalog import builtin as builtin  # registers
from .catalog.datasets import register_coco_multitask, register_images
from .loading.build import build_test_loader, build_tokenizer, build_train_loader
from .views.mapper import MultiTaskMapper

__all__ = [
    "MultiTaskMapper",
    "build_test_loader",
    "build_tokenizer",
    "build_train_loader",
    "register_coco_multitask",
    "register_images",
]
