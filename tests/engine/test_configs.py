"""All configurations train: two steps of a narrow network on toy scenes."""

import math
from pathlib import Path

import pytest

from yolor_d2.engine.trainer import Trainer
from yolor_d2.model_zoo import config_folder, get_config

from ..small_runs import SMALL

NAMES = sorted(
    str(path.relative_to(config_folder()))
    for folder in ("COCO", "toy", "quick")
    for path in (config_folder() / folder).rglob("*.yaml")
)
NARROW = [
    *("MODEL.DEVICE", "cpu", "MODEL.YOLOR_ELAN.WIDTH", 0.125, "MODEL.CAPTION_HEAD.VOCAB_SIZE", 0),
    *("MODEL.GELAN.WIDTH", 0.125, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.CAPTION_HEAD.DIM", 32, "MODEL.CAPTION_HEAD.FFN_DIM", 64, "TOKENIZER.VOCAB_SIZE", 60),
    *("SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "TEST.BEST.METRIC", "", "MODEL.WEIGHTS", ""),
]


@pytest.mark.parametrize("name", NAMES)
def test_two_steps(toy_sets: tuple[str, str], tmp_path: Path, name: str) -> None:
    cfg = get_config(name)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = [toy_sets[0]], [toy_sets[1]]
    cfg.merge_from_list([*SMALL, *NARROW, "OUTPUT_DIR", str(tmp_path)])
    trainer = Trainer(cfg)
    trainer.train()
    assert trainer.finished == 2
    assert math.isfinite(trainer.storage.latest()["total_loss"][0])
