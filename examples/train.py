"""Train from Python on your own labels, in any format of docs/reference/data_formats.md.

python examples/train.py photos output/photos detection mask
"""

import sys

import torch

from yolor_d2.engine.trainer import Trainer
from yolor_d2.model_zoo import get_config


def main(data: str, output: str, *tasks: str, overrides: tuple[str, ...] = ()) -> None:
    cfg = get_config("toy/yolor_elan_n_toy.yaml")
    cfg.DATASETS.DATA = data  # registers own_train, own_val and, if there is a part test, own_test
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("own_train",), ("own_val",)
    cfg.MODEL.YOLOR.TASKS = list(tasks)
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.OUTPUT_DIR = output
    cfg.merge_from_list(list(overrides))

    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()  # evaluates at the end
    print("trained:", output + "/model_final.pth")


if __name__ == "__main__":
    main(*sys.argv[1:])
