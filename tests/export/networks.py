"""Untrained networks to export, and pictures."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.modeling import build_model

from benchmarks.model_setting import calibrate, random_images
from yolor_d2.checkpoint.saving import save_checkpoint
from yolor_d2.inference.loading import load_network
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.tasks import TASKS
from yolor_d2.tokenizer import Tokenizer

from ..modeling.factory import tiny_config
from ..saved_networks import provenance_of

DAMPING = 1.25
ONNX = ("onnx", "onnxscript", "onnxruntime")
SIZES = [(96, 128), (75, 110), (260, 190)]
OBJECT_TOKENS = [
    *("MODEL.CAPTION_HEAD.REGION_FEATURE", "c2"),
    *("MODEL.CAPTION_HEAD.REGION_POSITION_SCALE", 2.0),
    *("MODEL.CAPTION_HEAD.DECODER_LAYERS", 1),
]


def write_checkpoint(
    folder: Path,
    *overrides: Any,
    tasks: tuple[str, ...] = TASKS,
    tokenizer: Tokenizer | None = None,
) -> Path:
    """Save an untrained network that detects many objects, as if trained on toy scenes."""
    texts = ["a red disc above a blue square", "two green stars", "a red star and a blue disc"]
    tokenizer = tokenizer or Tokenizer.train(texts, vocab_size=50)
    cfg = tiny_config(tasks, "INPUT.TEST_SIZE", 128, *overrides)
    cfg.TOKENIZER.VOCAB_SIZE = len(tokenizer)
    torch.manual_seed(0)
    model = build_model(cfg)
    noise = random_images(4, 128, 128, torch.device("cpu"))
    calibrate(model, lambda: model.raw_outputs(noise))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var *= DAMPING  # untrained, it would amplify rounding errors
    head = model.detection_head
    if head is not None:
        for predictor in head.class_predictors.values():
            torch.nn.init.normal_(predictor.weight, std=0.2)
            torch.nn.init.constant_(predictor.bias, 0.0)
    cfg.TOKENIZER.MODEL = "/nowhere/tokenizer.model"
    path = folder / "model.pth"
    content = {
        "iteration": 1,
        "model": model.state_dict(),
        "tokenizer": torch.frombuffer(bytearray(tokenizer.model_proto), dtype=torch.uint8),
        "provenance": provenance_of(cfg),
    }
    save_checkpoint(content, path)
    return path


def eager(weights: Path) -> tuple[YOLOR, int]:
    network = load_network(weights, device="cpu", opts=["MODEL.MASK_HEAD.MASK_FORMAT", "dense"])
    return network.model, network.recipe.test_size


def picture(size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(256, size=(6, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_NEAREST)
