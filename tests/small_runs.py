"""Small runs on toy scenes; the fixtures of tests/conftest.py make both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from yolor_d2.toy_scenes.builtin import register_toy_scenes

from .modeling.factory import tiny_config

Configure = Callable[..., CfgNode]
TRAIN, VAL = "engine_train", "engine_val"


def register(toy_root: Path) -> tuple[str, str]:
    """Register the two data sets in this process."""
    for split, name in (("train", TRAIN), ("val", VAL)):
        if name not in DatasetCatalog:  # another fixture may have registered it
            register_toy_scenes(name, toy_root / "toy_scenes", split)
    return TRAIN, VAL


def small_config(toy_sets: tuple[str, str], folder: Path, *overrides: Any) -> CfgNode:
    cfg = tiny_config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = [toy_sets[0]], [toy_sets[1]]
    cfg.merge_from_list([*SMALL, "OUTPUT_DIR", str(folder), *overrides])
    return cfg


SMALL = [
    *("INPUT.STRONG.SIZE", 64, "INPUT.WEAK.SIZE", 64, "INPUT.TEST_SIZE", 64),
    *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 6, "SOLVER.WARMUP_ITERS", 3),
    *("SOLVER.BASE_LR", 1e-3, "SOLVER.CHECKPOINT_PERIOD", 100, "TEST.EVAL_PERIOD", -1),
    *("DATALOADER.NUM_WORKERS", 0, "INPUT.CLOSE_MOSAIC_ITERS", 2, "LOG.PICTURES", 0),
    *("LOG.CURVES", False, "SOLVER.EMA.ENABLED", True, "SOLVER.EMA.TAU", 5.0),
    *("TEST.LOSS_PERIOD", 0, "TEST.EXPECTED_RESULTS", [], "TEST.METEOR", False),
]
