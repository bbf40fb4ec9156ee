"""Data sets of detectron2's catalogue, and the two views of their images."""

from . import builtin as builtin  # registers
from .build import build_test_loader, build_tokenizer, build_train_loader
from .datasets import register_coco_multitask
from .mapper import MultiTaskMapper

__all__ = [
    "MultiTaskMapper",
    "build_test_loader",
    "build_tokenizer",
    "build_train_loader",
    "register_coco_multitask",
]
