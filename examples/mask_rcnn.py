"""detectron2's Mask R-CNN and trainer on the GELAN backbone, on data in COCO's format.

python examples/mask_rcnn.py annotations.json images output/mask_rcnn
"""

import json
import sys
from pathlib import Path

import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer

from yolor_d2.model_zoo import get_config


def main(labels: str, images: str, output: str, *overrides: str) -> None:
    register_coco_instances("mine", {}, labels, images)
    cfg = get_config("reuse/mask_rcnn_gelan_fpn.yaml")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mine",), ()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(json.loads(Path(labels).read_text())["categories"])
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.OUTPUT_DIR = output
    cfg.merge_from_list(list(overrides))
    Path(output).mkdir(parents=True, exist_ok=True)

    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    print("trained:", output + "/model_final.pth")


if __name__ == "__main__":
    main(*sys.argv[1:])
