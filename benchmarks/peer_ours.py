"""Our network, trained by our trainer with the recipe of the demo."""

import time
from pathlib import Path
from typing import Any

from yolor_d2.engine.setup import seed_everything
from yolor_d2.engine.trainer import Trainer
from yolor_d2.inference.loading import load_network
from yolor_d2.model_zoo import load_config

from .model_setting import million_parameters
from .trained import Trained

RECIPE = "toy/yolor_elan_n_toy.yaml"
BOXES_AND_MASKS = ("detection", "mask")
OURS: dict[str, list[Any]] = {
    "ours": ["MODEL.YOLOR.TASKS", list(BOXES_AND_MASKS)],
    "ours-four-tasks": [],
}


def train(
    name: str, *, data_set: str, size: int, batch: int, images: int, seed: int, work: Path
) -> Trained:
    """Train a network from random weights; see `peer_ultralytics.train` for the arguments."""
    steps = max(images // batch, 1)
    settings: list[Any] = [
        *OURS[name],
        *("DATASETS.TRAIN", [data_set], "DATASETS.TEST", [data_set]),
        *("INPUT.STRONG.SIZE", size, "INPUT.WEAK.SIZE", size, "INPUT.TEST_SIZE", size),
        *("SOLVER.IMS_PER_BATCH", batch, "SOLVER.MAX_ITER", steps, "SEED", seed),
        *("SOLVER.WARMUP_ITERS", min(100, steps), "TEST.EVAL_PERIOD", -1),
        *("DATALOADER.NUM_WORKERS", 0, "LOG.PICTURES", 0, "LOG.CURVES", False),
        *("OUTPUT_DIR", str(work), "MODEL.DEVICE", "cpu"),
    ]
    cfg = load_config(RECIPE, settings)
    seed_everything(seed)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    started = time.process_time()
    trainer.train()
    seconds = time.process_time() - started
    network = load_network(work / "model_final.pth", device="cpu", tasks=BOXES_AND_MASKS)
    return Trained(network.model, steps * batch, seconds, million_parameters(trainer.model))
