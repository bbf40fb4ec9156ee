"""Checkpoints of untrained networks that detect objects everywhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from yolor_d2.checkpoint.provenance import Provenance
from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.data import build_tokenizer
from yolor_d2.data.files.images import read_upright
from yolor_d2.engine.provenance import build_provenance
from yolor_d2.tasks import TASKS
from yolor_d2.toy_scenes.builtin import register_toy_scenes
from yolor_d2.toy_scenes.dataset import generate_toy_scenes

from .data.coco_files import restored_catalogs
from .modeling.factory import tiny_config

NAME = "scenes_of_my_own"
OVERRIDES = (
    *("DATASETS.TRAIN", (NAME,), "DATASETS.TEST", (NAME,), "INPUT.TEST_SIZE", 96),
    *("TEST.DETECTIONS_PER_IMAGE", 12, "MODEL.DETECTION_HEAD.TEST.NMS_THRESH", 0.3),
    *("MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 1, "TOKENIZER.VOCAB_SIZE", 120),
    *("MODEL.CAPTION_HEAD.REGION_FEATURE", "p3", "DATALOADER.NUM_WORKERS", 0),
)


class Saved(NamedTuple):
    """The checkpoint of a run.

    Attributes:
        path: of the checkpoint.
        cfg: of the run.
        images: of its data set.
    """

    path: Path
    cfg: CfgNode
    images: list[Path]


@contextmanager
def own_scenes(root: Path) -> Iterator[list[Path]]:
    """Register six small scenes inside the context; yields their images."""
    if not root.exists():
        generate_toy_scenes(root, train=6, val=1, width=160, height=120, progress=False)
    with restored_catalogs():
        register_toy_scenes(NAME, root, "train")
        yield sorted((root / "train").iterdir())


def save_network(
    root: Path, tasks: tuple[str, ...] = TASKS, *overrides: Any, name: str = "model.pth"
) -> Saved:
    """Save a network in a folder, with the scenes of its data set."""
    with own_scenes(root / "scenes") as images:
        cfg = tiny_config(tasks, *OVERRIDES, *overrides)
        cfg.OUTPUT_DIR = str(root)
        content: dict[str, Any] = {"iteration": 0}
        if "caption" in tasks:
            tokenizer = build_tokenizer(cfg)
            cfg.TOKENIZER.MODEL = str(root / "tokenizer.model")
            tokenizer.save(cfg.TOKENIZER.MODEL)
            content["tokenizer"] = torch.frombuffer(
                bytearray(tokenizer.model_proto), dtype=torch.uint8
            )
        torch.manual_seed(0)
        model = build_model(cfg)
        if "detection" in tasks:
            make_responsive(model, images)
        content |= {"model": model.state_dict(), "provenance": provenance_of(cfg)}
        save_checkpoint(content, root / name)
    return Saved(root / name, cfg, images)


def provenance_of(cfg: CfgNode) -> Provenance:
    """The provenance of a run with this configuration."""
    return build_provenance(cfg.dump(), (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))


def make_responsive(model: Any, images: Sequence[Path]) -> None:
    """Change weights so that outputs depend on the image, and scores cover 0 to 1."""
    pixels = [read_upright(str(path)).transpose(2, 0, 1) for path in images]  # (3, h, w) each
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # statistics of these images
    with torch.no_grad():
        model.train().raw_outputs(torch.from_numpy(np.stack(pixels))[:, :, :96])
    for predictor in model.detection_head.class_predictors.values():
        nn.init.normal_(predictor.weight, std=0.5)
        nn.init.constant_(predictor.bias, -1.0)
