"""Fixtures: toy scenes, and configurations of small runs on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.toy_scenes.builtin import register_toy_scenes
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from ..modeling.factory import tiny_config

Configure = Callable[..., CfgNode]
TRAIN, VAL = "engine_train", "engine_val"


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for DETECTRON2_DATASETS with toy_scenes: 14 to train on, 5 to evaluate on."""
    root = tmp_path_factory.mktemp("datasets")
    generate_toy_scenes(
        root / "toy_scenes", train=14, val=5, width=96, height=64, max_size=50, progress=False
    )
    return root


@pytest.fixture(scope="session")
def toy_sets(toy_root: Path) -> Iterator[tuple[str, str]]:
    """Names of the two data sets, registered in this process."""
    names = register(toy_root)
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        for suffix in ("", "_panoptic"):
            MetadataCatalog.remove(name + suffix)


def register(toy_root: Path) -> tuple[str, str]:
    """Register the two data sets in this process."""
    for split, name in (("train", TRAIN), ("val", VAL)):
        if name not in DatasetCatalog:  # another fixture may have registered it
            register_toy_scenes(name, toy_root / "toy_scenes", split)
    return TRAIN, VAL


@pytest.fixture
def configure(toy_sets: tuple[str, str], tmp_path: Path) -> Configure:
    """A configuration of a small run into a folder below tmp_path."""

    def make(folder: str = "run", *overrides: Any) -> CfgNode:
        return small_config(toy_sets, tmp_path / folder, *overrides)

    return make


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
