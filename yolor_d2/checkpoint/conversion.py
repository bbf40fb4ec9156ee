"""Conversion of published weight files to checkpoints of yolor_d2."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.modeling import build_model
from torch import Tensor

from ..files import replacing
from ..model_zoo import get_config
from .foreign import convert_state_dict
from .published import read_state_dict

CONFIGS = {
    "yolov7-af": "COCO/yolor_elan_det.yaml",
    "yolov7-af-seg": "COCO/yolor_elan_seg.yaml",
    "yolov7-af-pan": "COCO/yolor_elan_pan.yaml",
}
# Weights whose first axis is the number of classes, by configuration node.
PREDICTORS = {
    "DETECTION_HEAD": "detection_head.class_predictors.p3.weight",
    "SEM_SEG_HEAD": "semantic_head.predictor.weight",
}


def convert_file(source: str, path: Path, output: Path, *, version: str) -> int:
    """Convert a published weight file.

    Args:
        source: the published network, one of SOURCES.
        path: the published file.
        output: the checkpoint to write, atomically.
        version: of yolor_d2, for the provenance.

    Returns:
        Number of tensors.

    Raises:
        ValueError: the file does not contain the weights of `source`.
    """
    if output.suffix != ".pth":
        raise ValueError(f"{output}: must end in .pth, or detectron2 reads another format")
    model = convert_state_dict(read_state_dict(path), source)
    check_shapes(model, source)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = {
        "source": source,
        "file": path.name,
        "sha256": digest,
        "yolor_d2": version,
    }
    with replacing(output, sync=True) as file:
        torch.save({"model": model, "__author__": "yolor_d2", "provenance": provenance}, file)
    return len(model)


def check_shapes(state: Mapping[str, Tensor], source: str) -> None:
    """Raise a ValueError unless all shapes are the network's; the number of classes may differ."""
    cfg = get_config(CONFIGS[source])
    for node, predictor in PREDICTORS.items():
        if predictor in state:
            cfg.MODEL[node].NUM_CLASSES = len(state[predictor])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        expected = build_model(cfg).state_dict()
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            raise ValueError(f"this is not {source}: {name} is {shapes}")
