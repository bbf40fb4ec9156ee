"""Trains, evaluates and predicts with the detectron2 that is first on the path.

`python -m tests.compat.program TOYS FOLDER`: continues the run in FOLDER if there is one, up to its
third step, and prints facts as JSON in the last line. A new run stops after two steps.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import detectron2
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import HookBase
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

from yolor_d2 import Predictor
from yolor_d2.engine.trainer import Trainer

from ..small_runs import register, small_config


class StopAfterTwo(HookBase):
    def after_step(self) -> None:
        if self.trainer.iter == 1:
            self.trainer.request_stop("as the test wants")


def run_config(toys: Path, folder: Path) -> CfgNode:
    return small_config(
        register(toys),
        folder,
        *("SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 2),
    )


def train(toys: Path, folder: Path) -> Trainer:
    """Two steps of a new run, or the last step of one that is there."""
    trainer = Trainer(run_config(toys, folder))
    trainer.resume_or_load(resume=True)
    if trainer.start_iter == 0:
        trainer.register_hooks([StopAfterTwo()])
    trainer.train()
    return trainer


def predict(toys: Path, folder: Path) -> list[str]:
    """Names of the results for an image, by the checkpoint alone."""
    image = cv2.imread(str(next((toys / "toy_scenes/val").glob("*.*"))))
    found = Predictor(folder / "model_final.pth", device="cpu")(image)
    return sorted(found.to_json())


def keys(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in node.items():
        if isinstance(value, CfgNode):
            found |= keys(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def main() -> None:
    toys, folder = map(Path, sys.argv[1:])
    assert "YOLOR" in META_ARCH_REGISTRY
    assert "build_yolor_elan_pan_backbone" in BACKBONE_REGISTRY
    assert "UConvHead" in SEM_SEG_HEADS_REGISTRY
    before = predict(toys, folder) if folder.is_dir() else []
    trainer = train(toys, folder)
    facts = {
        "detectron2": str(Path(detectron2.__file__).parents[1]),
        "keys": keys(get_cfg()),
        "finished": trainer.finished,
        "start": trainer.start_iter,
        "finite": math.isfinite(trainer.storage.latest()["total_loss"][0]),
        "results": sorted(trainer.results),
        "predicted before": before,
        "predicted": predict(toys, folder),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
